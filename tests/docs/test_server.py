"""docs/server.md says what the server has: settings, metrics, limits."""

from __future__ import annotations

import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from carousel_server.device_metrics import DeviceCollector
from carousel_server.settings import Settings
from tests.docs.pages import tables
from tests.support import raw

PAGE = "docs/server.md"


def flags():
    return {cells[0].strip("`"): cells for cells in tables(PAGE, "flag")}


def test_every_setting_is_in_the_table_and_no_other():
    assert set(flags()) == {f"--{name.replace('_', '-')}" for name in Settings.model_fields}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_as_the_table_says(name):
    field = Settings.model_fields[name]
    _, variable, yaml, default, _ = flags()[f"--{name.replace('_', '-')}"]
    assert variable == f"`CAROUSEL_{name.upper()}`"
    assert yaml == f"`{name}`"
    none = field.default is None or field.default == ""
    fallback = "none" if none else f"`{field.default}`"
    assert default == ("required" if field.is_required() else fallback)


def test_limits_are_flags():
    limits = [cells[0].strip("`") for cells in tables(PAGE, "limit")]
    assert len(limits) > 5
    assert set(limits) <= set(flags())


#: What a server without TLS doesn't show; tests/e2e/test_tls.py has one that does.
WITH_TLS = {"carousel_tls_certificate_expiry_timestamp_seconds": ("gauge", set())}

#: What a server without a GPU doesn't show; tests/server/test_device_metrics.py reads them.
ON_A_GPU = {
    family.name + ("_total" if family.type == "counter" else ""): (family.type, labels)
    for family, labels in (
        (family, set(getattr(family, "_labelnames", ())))
        for family in DeviceCollector(list).collect()
    )
}


def scrape(server):
    with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=10) as page:
        return list(text_string_to_metric_families(page.read().decode()))


def test_every_metric_is_in_the_table_and_no_other(server):
    """With its type and labels, after a session was opened, stepped, refused and closed."""
    with raw.connect(server.address) as client:
        opened = client.open("sum")
        for x in (1.0, float("nan")):
            client.step(raw.step_request(opened, [[x]]))
        client.close(opened)
    found = {}
    for family in scrape(server):
        if family.name.startswith("carousel_") and not family.name.endswith("_created"):
            ending = "_total" if family.type == "counter" else ""
            labels = {name for sample in family.samples for name in sample.labels} - {"le"}
            found[family.name + ending] = (family.type, labels)
    told = {
        name.strip("`"): (kind, {label.strip() for label in labels.split(",") if label.strip()})
        for name, kind, labels, _ in tables(PAGE, "metric")
    }
    assert told == found | WITH_TLS | ON_A_GPU
