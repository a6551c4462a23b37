"""The fit of what ticks cost."""

import numpy as np
import pytest

from benchmarks.tick_cost import BATCHES, Cost, fit


def cost(rows, overhead):
    bare = 20.0 + 2.5 * rows
    return Cost(rows, bare + overhead, bare, overhead, graph_us=0.0)


def test_a_straight_line_is_found():
    fixed, row = fit([cost(rows, 80 + 0.25 * rows) for rows in BATCHES])
    assert fixed == pytest.approx(80)
    assert row == pytest.approx(0.25)


def test_noise_of_the_largest_batch_does_not_spoil_the_fixed_part():
    costs = [cost(rows, 80 + 0.25 * rows) for rows in BATCHES]
    largest = costs[-1]
    noisy = [*costs[:-1], cost(largest.rows, largest.overhead_us + 0.1 * largest.bare_us)]
    assert fit(noisy)[0] == pytest.approx(80, rel=0.1)
    # Without weights it would: the test is worth something.
    rows, overhead = np.array([[c.rows, c.overhead_us] for c in noisy]).T
    assert np.polyfit(rows, overhead, 1)[1] < 70


def test_the_aim_grows_with_the_rows():
    assert cost(1, 0).aim_us == pytest.approx(150.3)
    assert cost(1000, 0).aim_us == pytest.approx(450)
