"""A real Prometheus scrapes real servers under load: whatever is asked of it has an answer.

Everything here looks at one world, which runs while the tests do; the last ones do harm to it.
"""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from urllib.request import urlopen

import pytest
import pytest_asyncio

from tests.chart import tools
from tests.chart.asked import (
    FOREIGN,
    SOURCES,
    adapter,
    dashboard,
    keda,
    metrics_in,
    named_alerts,
    panels,
    plain,
)
from tests.chart.test_alerts import VALUES, groups
from tests.chart.watched import BAD, GOOD, WITH_A_DEVICE, Watched, run_watched
from tests.support import models

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SECONDS = 60.0
#: Alerts whose expressions have no value here, and why.
VALUELESS = {
    "CarouselAbsent": "what is absent is there",
    "CarouselNotReady": "kube-state-metrics is not",
    "CarouselInternalErrors": "the counter is there with the server's first fault of its own",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module", autouse=True)
async def watched(tmp_path_factory) -> AsyncIterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    alerts = groups(VALUES)["groups"]
    async with run_watched(folder, rules=alerts, modules=WITH_A_DEVICE) as running:
        # A version that can't be served: the alert, and its panel, are about such.
        models.put(running.repository, models.running_sum(), BAD, "broken").write_bytes(b"no model")
        yield running


async def eventually(watched: Watched, true: Callable[[], object]) -> object:
    """Wait until something is so; return it."""
    until = time.monotonic() + _SECONDS
    while not (found := await asyncio.to_thread(true)):
        watched.load.check()
        assert time.monotonic() < until, f"not so within {_SECONDS:g} s"
        await asyncio.sleep(0.2)
    return found


def shown(address: str) -> str:
    """Return a server's metrics as it shows them."""
    with urlopen(f"http://{address}/metrics", timeout=10) as answer:
        page: str = answer.read().decode()
    return page


def substituted(query: str) -> str:
    """Return a panel's query as Grafana would send it for all pods and models."""
    found = query.replace("$__rate_interval", "10s").replace("$namespace", tools.NAMESPACE)
    return found.replace("$pod", ".*").replace("$model", ".*")


def without_comparisons(query: str) -> str:
    """Return an alert's expression without what makes it fire, so that it always has a value."""
    return re.sub(r"\s*(?:[<>]|==)\s*[\d.]+", "", query)


async def test_promtool_finds_nothing_wrong_with_what_a_server_shows(watched):
    page = await asyncio.to_thread(shown, watched.fleet.members[0].http)
    done = tools.promtool("check", "metrics", given=page)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert page.count("\n# TYPE carousel_") >= 25


@pytest.mark.parametrize("source", SOURCES)
async def test_every_metric_that_is_asked_for_was_scraped(watched, source):
    names = {name for query in SOURCES[source]() for name in metrics_in(plain(query))}
    missing = names - FOREIGN.keys()
    assert missing

    def there() -> bool:
        nonlocal missing
        missing = {name for name in missing if not watched.prometheus.query(f"count({name})")}
        return not missing

    try:
        await eventually(watched, there)
    except AssertionError:
        raise AssertionError(f"not scraped: {sorted(missing)}") from None


async def test_every_panel_shows_numbers(watched):
    queries = {substituted(query) for query in panels()}

    def answered() -> bool:
        # NaN is what a share of nothing is: a panel would be empty there.
        for query in [*queries]:
            values = [sample.value for sample in watched.prometheus.query(query)]
            if any(not math.isnan(value) for value in values):
                queries.discard(query)
        return not queries

    try:
        await eventually(watched, answered)
    except AssertionError:
        raise AssertionError("empty: " + "\n".join(sorted(queries))) from None


async def test_a_gpu_is_told_of_by_servers_that_have_one_alone(watched):
    """Of two servers with the same models, one has them on a device."""
    (row,) = (panel for panel in dashboard()["panels"] if panel.get("collapsed"))
    for panel in row["panels"]:
        for target in panel["targets"]:
            found = watched.prometheus.query(substituted(target["expr"]))
            assert {sample.labels["pod"] for sample in found} == {"release-1"}, panel["title"]


async def drawn(watched, namespace, out):
    """Draw a namespace's panels; return what was said of it.

    In a process of its own: here the clients would have to wait for it.
    """
    drawing = await asyncio.create_subprocess_exec(
        *(sys.executable, str(tools.TOOLS / "picture.py"), "--out", str(out)),
        *("--prometheus", watched.prometheus.url, "--namespace", namespace),
        *("--minutes", "0.2"),
        stderr=subprocess.PIPE,
    )
    _, said = await drawing.communicate()
    assert drawing.returncode == 0, said.decode()
    assert out.read_bytes().startswith(b"\x89PNG")
    return said.decode()


async def test_the_panels_can_be_drawn(watched, tmp_path):
    said = await drawn(watched, tools.NAMESPACE, tmp_path / "dashboard.png")
    assert said == "", "or it names what has nothing to show"


async def test_a_row_of_what_is_not_there_is_not_drawn(watched, tmp_path):
    said = await drawn(watched, "nowhere", tmp_path / "nothing.png")
    shown = [panel["title"] for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert said.splitlines() == [f"nothing to show: {title}" for title in shown]


async def test_what_autoscalers_ask_for_is_a_share(watched):
    ask = watched.prometheus.query
    (both,) = ask(keda()[0])
    each = {sample.labels["pod"]: sample.value for sample in ask(adapter()[0])}
    assert set(each) == {"release-0", "release-1"}
    assert all(0 < value <= 1 for value in each.values())
    assert 0 < both.value <= 2


async def test_every_alert_has_a_value_before_it_is_compared(watched):
    left = {
        alert: without_comparisons(expression)
        for alert, expression in named_alerts().items()
        if alert not in VALUELESS
    }

    def answered() -> bool:
        for alert, expression in [*left.items()]:
            if watched.prometheus.query(expression):
                del left[alert]
        return not left

    try:
        await eventually(watched, answered)
    except AssertionError:
        raise AssertionError(f"no value: {left}") from None


async def test_prometheus_evaluates_every_rule(watched):
    def evaluated() -> bool:
        return all(rule["health"] == "ok" for rule in watched.prometheus.rules())

    await eventually(watched, evaluated)
    assert {rule["name"] for rule in watched.prometheus.rules()} == set(named_alerts())


async def test_counters_go_on(watched):
    query = f'sum(carousel_steps_total{{model="{GOOD}"}})'
    (before,) = watched.prometheus.query(query)
    assert before.value > 0
    await eventually(watched, lambda: watched.prometheus.query(query)[0].value > before.value)


async def test_what_goes_wrong_here_fires_and_what_does_not_is_quiet(watched):
    wanted = {"CarouselNumericFaults", "CarouselModelErrors", "CarouselModelRefused"}

    def firing() -> bool:
        states = watched.prometheus.alerts()
        return all(states.get(name) == "firing" for name in wanted)

    await eventually(watched, firing)
    quiet = {"CarouselDown", "CarouselAbsent", "CarouselStoreDown", "CarouselRestarted"}
    quiet |= {"CarouselGraphsRecaptured", "CarouselStepsNotCaptured"}
    assert not quiet & set(watched.prometheus.alerts())


async def test_a_server_that_dies_and_comes_back_is_told_of(watched):
    victim = watched.fleet.members[0]
    # A server that starts serves all there is, or says why not.
    shutil.rmtree(watched.repository / BAD / "broken")
    await victim.kill()
    await eventually(watched, lambda: "CarouselDown" in watched.prometheus.alerts())
    await victim.start()
    await eventually(
        watched, lambda: watched.prometheus.alerts().get("CarouselRestarted") == "firing"
    )
    await eventually(watched, lambda: "CarouselDown" not in watched.prometheus.alerts())


async def test_a_store_that_goes_away_is_told_of_at_every_server(watched):
    watched.redis.kill()
    down = f'count(carousel_store_up{{namespace="{tools.NAMESPACE}"}} == 0)'
    await eventually(
        watched, lambda: [sample.value for sample in watched.prometheus.query(down)] == [2]
    )
    await eventually(watched, lambda: "CarouselStoreDown" in watched.prometheus.alerts())
    await asyncio.to_thread(watched.redis.start)
    await eventually(watched, lambda: "CarouselStoreDown" not in watched.prometheus.alerts())
