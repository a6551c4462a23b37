"""docs/gpu.md says of each metric that a GPU has what to do about it."""

from __future__ import annotations

from carousel_server.device_metrics import DeviceCollector
from tests.docs.pages import tables


def test_every_metric_of_a_gpu_is_in_the_table_and_no_other():
    told = {cells[0].strip("`") for cells in tables("docs/gpu.md", "metric")}
    assert told == {
        family.name + ("_total" if family.type == "counter" else "")
        for family in DeviceCollector(list).collect()
    }
