"""Metrics: the names that dashboards and alerts rely on, counted by a real engine."""

from __future__ import annotations

import math

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from carousel_server.engine import controls
from carousel_server.metrics import Metrics
from tests.support.bench import Bench, chunk, handles
from tests.support.recurrence import CRASH, RecurrenceRunner


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and its labels' values, in the order of the labels' names."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found, "two samples of one label set"
            found[key] = sample.value
    return found


def test_what_an_engine_does_is_counted(metrics):
    bench = Bench(RecurrenceRunner(slots=6), observer=metrics.observer("m"), max_steps_per_tick=4)
    metrics.watch(lambda: [("m", bench.engine)])
    a, b, c = bench.open("a", "b", "c")
    bench.send({a: chunk(8), b: chunk(3), c: [math.nan, 0]})
    bench.drain()
    bench.send({a: [CRASH, 0], b: chunk(1)})
    bench.drain()
    bench.now(controls.close(handles(c)))
    bench.clock.now += 10
    bench.send({b: chunk(1)})
    bench.turn()
    bench.now(controls.Expire(10.0))
    found = samples(metrics)
    assert found["carousel_sessions_opened_total", "m"] == 3
    assert found["carousel_sessions_ended_total", "m", "closed"] == 1
    assert found["carousel_sessions_ended_total", "m", "expired"] == 1
    assert found["carousel_rows_rejected_total", "m", "INVALID"] == 1
    assert found["carousel_rows_rejected_total", "m", "MODEL_ERROR"] == 1
    assert found["carousel_steps_total", "m"] == 8 + 3 + 1 + 1, "only those that were applied"
    assert found["carousel_tick_rows_count", "m"] == 4
    assert found["carousel_tick_rows_sum", "m"] == 2 + 1 + 2 + 1
    assert found["carousel_tick_steps_sum", "m"] == 8 + 3 + 2 + 1
    assert found["carousel_tick_padding_ratio_count", "m"] == 4
    assert found["carousel_tick_padding_ratio_sum", "m"] == pytest.approx(1 / 8)
    assert found["carousel_step_seconds_count", "m", "queue"] == 3
    assert found["carousel_step_seconds_count", "m", "total"] == 3
    assert found["carousel_step_seconds_count", "m", "run"] == 4
    assert found["carousel_sessions", "m", "live"] == 1
    assert found["carousel_slots", "m", "used"] == 1
    assert found["carousel_slots", "m", "free"] == 5
    assert found["carousel_state_bytes", "m", "pool"] == 8


def test_rows_that_wait_are_counted(metrics):
    bench = Bench(observer=metrics.observer("m"), queue_rows=1)
    metrics.watch(lambda: [("m", bench.engine)])
    a, b = bench.open("a", "b")
    bench.send({a: chunk(1)})
    bench.send({b: chunk(1)})
    found = samples(metrics)
    assert found["carousel_queue_rows", "m"] == 1
    assert found["carousel_rows_rejected_total", "m", "BUSY"] == 1
    bench.drain()
    assert samples(metrics)["carousel_queue_rows", "m"] == 0


def test_versions_of_a_model_are_told_together(metrics):
    benches = [Bench(observer=metrics.observer("m")) for _ in range(2)]
    metrics.watch(lambda: [("m", bench.engine) for bench in benches])
    for bench in benches:
        a, _ = bench.open("a", "b")
        bench.send({a: chunk(1)})
        bench.drain()
    found = samples(metrics)
    assert found["carousel_sessions", "m", "live"] == 4
    assert found["carousel_sessions", "m", "parked"] == 0
    assert found["carousel_slots", "m", "used"] == 2, "without a step there is no state"
    assert found["carousel_slots", "m", "free"] == 14
    assert found["carousel_sessions_opened_total", "m"] == 4
    assert found["carousel_tick_rows_count", "m"] == 2


def test_states_that_move_are_counted(metrics):
    bench = Bench(RecurrenceRunner(slots=1), observer=metrics.observer("m"))
    metrics.watch(lambda: [("m", bench.engine)])
    for handle in bench.open("a", "b") * 2:
        bench.send({handle: chunk(1)})
        bench.drain()
    found = samples(metrics)
    assert found["carousel_restores_total", "m"] == 2
    assert found["carousel_state_bytes", "m", "pool"] == 8
    assert found["carousel_state_bytes", "m", "host"] == 8


def test_the_process_tells_of_itself(metrics):
    metrics.load_seconds.labels("m", "1").set(0.5)
    metrics.rpcs.labels("/carousel.v1.SessionService/Step", "OK").inc()
    metrics.rpc_seconds.labels("/carousel.v1.SessionService/Step").observe(0.1)
    found = samples(metrics)
    assert found["carousel_build_info", "1.2.3"] == 1
    assert found["carousel_model_load_seconds", "m", "1"] == 0.5
    assert found["carousel_rpcs_total", "OK", "/carousel.v1.SessionService/Step"] == 1
    assert found["carousel_rpc_seconds_count", "/carousel.v1.SessionService/Step"] == 1
    assert any(key[0].startswith("process_") for key in found)


def test_servers_do_not_share_their_numbers():
    first, second = Metrics("1"), Metrics("2")
    first.observer("m").opened(3)
    assert ("carousel_sessions_opened_total", "m") not in samples(second)
    assert np.isfinite(list(samples(second).values())).any()
