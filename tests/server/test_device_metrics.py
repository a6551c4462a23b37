"""What a scrape says of models on a device."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from carousel_server.device_metrics import DeviceCollector
from carousel_server.runtime.ondevice.memory import HostMemory, Room
from tests.support.ondevice import inputs, open_on_device
from tests.support.recurrent import cell


class Measured(HostMemory):
    """Memory that can tell what is free, and how long runs took."""

    def room(self):
        return Room(300, 1000)

    def seconds(self, first, last):
        return 0.5


@pytest.fixture
def registry(tmp_path):
    model = open_on_device(
        tmp_path, cell("lstm"), memory=Measured(), slots=8, pool_bytes=1e6, largest=4
    )
    made = CollectorRegistry()
    made.register(DeviceCollector(lambda: [("keywords", model), ("keywords", model)]))
    made.model = model
    return made


def test_versions_of_a_model_are_added_up(registry):
    one = registry.model.pool_bytes
    assert one == 9 * 2 * 8 * 4
    assert registry.get_sample_value("carousel_pool_bytes", {"model": "keywords"}) == 2 * one


def test_memory_is_the_devices(registry):
    states = ["free", "used"]
    values = [
        registry.get_sample_value("carousel_device_memory_bytes", {"state": s}) for s in states
    ]
    assert values == [300, 700]


def test_a_tick_moves_the_counters(registry):
    labels = {"model": "keywords"}
    names = {
        "carousel_graph_replays_total": labels,
        "carousel_device_run_seconds_total": labels,
        "carousel_device_copies_total": labels | {"direction": "in"},
        "carousel_device_copy_bytes_total": labels | {"direction": "out"},
    }
    before = {name: registry.get_sample_value(name, given) for name, given in names.items()}
    model = registry.model
    model.run(np.array([1, 2]), np.ones(2, np.int64), inputs(model, np.random.default_rng(0), 1, 2))
    moved = {n: registry.get_sample_value(n, given) - before[n] for n, given in names.items()}
    assert moved["carousel_graph_replays_total"] == 2
    assert moved["carousel_device_run_seconds_total"] == 1.0
    assert moved["carousel_device_copies_total"] == 2
    assert moved["carousel_device_copy_bytes_total"] > 0
    assert registry.get_sample_value("carousel_graph_captures_total", labels) >= 2 * 3


def test_ticks_that_were_queued_behind_another_one(registry):
    def count():
        return registry.get_sample_value("carousel_overlapped_runs_total", {"model": "keywords"})

    model, rng, ones, before = registry.model, np.random.default_rng(0), np.ones(2, int), count()
    runs = [model.start(np.array(s), ones, inputs(model, rng, 1, 2)) for s in ([1, 2], [3, 4])]
    for run in runs:
        run.finish()
    assert count() - before == 2, "one of each of the two"


def test_without_models_nothing_is_told():
    made = CollectorRegistry()
    made.register(DeviceCollector(list))
    assert made.get_sample_value("carousel_device_memory_bytes", {"state": "free"}) is None
