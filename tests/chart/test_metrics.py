"""Whatever alerts, panels and autoscalers ask Prometheus for is there, by name and by label."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from carousel.v1 import sessions_pb2
from carousel_server.device_metrics import DeviceCollector
from carousel_server.engine import controls
from carousel_server.metrics import Metrics
from carousel_server.runtime.device import Device
from tests.chart import tools
from tests.chart.asked import (
    FOREIGN,
    SCRAPED,
    SELECTOR,
    SOURCES,
    adapter,
    alerts,
    dashboard,
    keda,
    metrics_in,
    panels,
    plain,
    unfolded,
)
from tests.chart.tools import CHART, TOOLS, one, render, shape
from tests.support.bench import Bench, chunk, handles
from tests.support.devicehost import MeasuredHost
from tests.support.ondevice import open_on_device
from tests.support.recurrence import RecurrenceRunner
from tests.support.recurrent import cell


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Return the labels, and for `le`, `state`, `phase` and so on the values, of every sample."""
    metrics = Metrics("1.2.3")
    bench = Bench(RecurrenceRunner(slots=6), observer=metrics.observer("m"), max_steps_per_tick=4)
    metrics.watch(lambda: [("m", bench.engine)])
    metrics.watch_keeping(lambda: 0)
    on_device = open_on_device(
        tmp_path_factory.mktemp("device"), cell("lstm"), memory=MeasuredHost(Device("cpu"))
    )
    metrics.registry.register(DeviceCollector(lambda: [("m", on_device)]))
    a, b = bench.open("a", "b")
    bench.send({a: chunk(8), b: [float("nan"), 0]})
    bench.drain()
    bench.now(controls.close(handles(a)))
    metrics.rpcs.labels("/carousel.v1.SessionService/Open", "OK").inc()
    metrics.rpc_seconds.labels("/carousel.v1.SessionService/Open").observe(1.0)
    metrics.load_seconds.labels("m", "1").set(1)
    metrics.certificate().set(1)
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@pytest.fixture(scope="module", params=SOURCES)
def queries(request):
    found = [plain(query) for query in SOURCES[request.param]()]
    assert found
    return found


def test_every_query_is_one_that_prometheus_understands(queries, tmp_path):
    rules = [{"record": f"r{n}", "expr": query} for n, query in enumerate(queries)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    done = tools.promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_is_there(queries, known):
    names = {name for query in queries for name in metrics_in(query)}
    assert names - known.keys() - FOREIGN.keys() == set()
    assert names


def test_no_metric_goes_without_a_selector(queries):
    """So that the pattern above sees all of them."""
    for query in queries:
        bare = re.sub(r"\{[^}]*\}", "{}", query)
        for name in re.findall(r"\b(?:carousel|process|python|kube)_\w+", bare):
            if name != "carousel_build_info":  # the first of the dashboard's variables
                assert f"{name}{{}}" in bare, name


def test_every_label_and_its_value_are_there(queries, known):
    wrong = set()
    for query in queries:
        for name, selector in SELECTOR.findall(query):
            for label, how, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', selector):
                if name in FOREIGN or label in SCRAPED:
                    continue
                values = known[name].get(label)
                # Reasons and codes come with what happens; others are there from the start.
                fixed = label in {"state", "phase", "place", "le"}
                if values is None or (how == "=" and fixed and value not in values):
                    wrong.add(f"{name} {label}{how}{value}")
    assert wrong == set()


def test_every_label_that_is_grouped_by_is_there(queries, known):
    for query in queries:
        names = metrics_in(query) - FOREIGN.keys()
        labels = {label for name in names for label in known[name]} | SCRAPED
        for grouped in re.findall(r"(?:by|without|ignoring) ?\(([^)]*)\)", query):
            assert {part.strip() for part in grouped.split(",")} <= labels, query


def test_rejections_have_reasons_that_alerts_know():
    reasons = {name.removeprefix("ROW_STATUS_") for name, _ in sessions_pb2.RowStatus.items()}
    used = {r for query in alerts() for r in re.findall(r'reason="(\w+)"', query)}
    assert used == {"BUSY", "NUMERIC_FAULT", "MODEL_ERROR"}
    assert used <= reasons


def test_latencies_to_choose_from_are_buckets(known):
    schema = json.loads((CHART / "values.schema.json").read_text())
    rules = schema["properties"]["monitoring"]["properties"]["rules"]["properties"]
    assert set(rules["latencySeconds"]["enum"]) <= known["carousel_step_seconds_bucket"]["le"]


def test_the_autoscaler_asks_for_what_the_adapter_gives():
    metric = one(render(shape("hpa-slots")), "HorizontalPodAutoscaler")["spec"]["metrics"][0]
    (rule,) = yaml.safe_load((CHART / "files" / "prometheus-adapter.yaml").read_text())
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "600m"}


def test_keda_and_the_adapter_compute_the_share_of_slots(tmp_path):
    """Two servers, the fuller model of each counts: 0.75 and 0.5."""
    series = {
        ("release-0", "a", "used"): 10,
        ("release-0", "a", "free"): 90,
        ("release-0", "b", "used"): 75,
        ("release-0", "b", "free"): 25,
        ("release-1", "b", "used"): 50,
        ("release-1", "b", "free"): 50,
        ("release-redis-0", "b", "used"): 100,
        ("release-redis-0", "b", "free"): 0,
    }
    samples = {"release-0": 0.75, "release-1": 0.5}
    test = {
        "interval": "1m",
        "input_series": [
            {
                "series": f'carousel_slots{{namespace="space",pod="{p}",model="{m}",state="{s}"}}',
                "values": str(value),
            }
            for (p, m, s), value in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": keda()[0],
                "eval_time": "0m",
                "exp_samples": [{"value": sum(samples.values())}],
            },
            {
                "expr": adapter()[0],
                "eval_time": "0m",
                "exp_samples": [
                    {"labels": f'{{pod="{pod}"}}', "value": value} for pod, value in samples.items()
                ],
            },
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    done = tools.promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_has_the_type_that_grafana_gives_it():
    text = (CHART / "files" / "dashboard.json").read_text()
    head = 'import type { Dashboard } from "@grafana/schema";\n'
    assert tools.typescript(f"{head}export const d: Dashboard = {text};", "dashboard") == ""
    wrong = text.replace('"graphTooltip": 1', '"graphTooltip": "yes"')
    said = tools.typescript(f"{head}export const d: Dashboard = {wrong};", "nodashboard")
    assert "DashboardCursorSync" in said


def test_panels_have_their_places():
    """No two overlap, none is wider than the page, no id is there twice; a row opened too."""
    seen: dict[tuple[int, int], int] = {}
    for panel in unfolded():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert seen.setdefault((x, y), panel["id"]) == panel["id"]
    ids = [panel["id"] for panel in unfolded()]
    assert len(ids) == len(set(ids))


def test_the_dashboard_has_its_rows_and_variables():
    rows = [p["title"] for p in dashboard()["panels"] if p["type"] == "row"]
    assert rows == [
        "Traffic",
        "Sessions and slots",
        "Latency by phase",
        "Batch shape and padding",
        "Durability",
        "Resources",
        "GPU, of servers that have one",
    ]
    names = [variable["name"] for variable in dashboard()["templating"]["list"]]
    assert names == ["datasource", "namespace", "pod", "model"]
    assert all('namespace="$namespace"' in query for query in panels())


def test_what_a_fleet_may_not_have_is_folded_and_nothing_else():
    """A panel without data looks like a fault; Grafana draws none of a row that is folded."""
    folded = [panel["title"] for panel in dashboard()["panels"] if panel.get("collapsed")]
    assert folded == ["GPU, of servers that have one"]
    of_a_gpu = {family.name for family in DeviceCollector(list).collect()}
    for panel in unfolded():
        asked = {
            m.removesuffix("_total")
            for t in panel.get("targets", [])
            for m in metrics_in(t["expr"])
        }
        inside = any(panel in row.get("panels", []) for row in dashboard()["panels"])
        assert bool(asked & of_a_gpu) == inside, panel["title"]


def test_the_dashboard_is_in_its_config_map():
    data = one(render(shape("production")), "ConfigMap", "release-dashboard")["data"]
    assert json.loads(data["carousel.json"]) == dashboard()


@pytest.mark.parametrize("script", ["dashboard.py", "readme.py"])
def test_what_is_made_is_current(script):
    done = subprocess.run(
        [sys.executable, TOOLS / script, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
