"""What is made of the bursts that were timed; what metrics cost is measured, not tested."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.metered import Unmetered
from benchmarks.metrics_cost import cost_of
from tests.support.bench import Bench, chunk
from tests.support.recurrence import RecurrenceRunner


def test_a_cost_is_the_median_of_the_rounds():
    beside = np.array([1.0, 2.0, 4.0])
    cost = cost_of(beside * [1.01, 1.02, 1.5], beside)
    assert cost.percent == pytest.approx(2.0)
    assert cost.low <= cost.percent <= cost.high


def test_who_is_alike_costs_nothing():
    seconds = np.random.default_rng(0).uniform(1, 2, 50)
    assert cost_of(seconds, seconds).percent == 0


def test_nothing_is_counted_where_nothing_is_to_be():
    metrics = Unmetered("1")
    bench = Bench(RecurrenceRunner(slots=6), observer=metrics.observer("m"))
    (a,) = bench.open("a")
    bench.send({a: chunk(3)})
    bench.drain()
    assert metrics.registry.get_sample_value("carousel_steps_total", {"model": "m"}) is None
