"""Batch buckets: which there are, and how rows fill them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carousel_server.runtime.ondevice.buckets import active_rows, bucket_sizes, cover, guessed


@pytest.mark.parametrize(
    ("slots", "max_batch", "largest", "sizes"),
    [
        (8, 0, 1024, (1, 2, 4, 8)),
        (9, 0, 1024, (1, 2, 4, 8, 16)),
        (1, 0, 1024, (1,)),
        (16_384, 0, 16, (1, 2, 4, 8, 16)),
        (16_384, 6, 1024, (1, 2, 4, 6)),
        (16_384, 1, 1024, (1,)),
    ],
)
def test_sizes(slots, max_batch, largest, sizes):
    assert bucket_sizes(slots, max_batch, largest) == sizes


@given(st.integers(1, 70), st.data())
def test_rows_are_covered_at_the_least_cost(rows, data):
    """Beside every way of making the rows of full buckets and a last one."""
    sizes = (1, 2, 4, 8, 16)
    costs = {s: data.draw(st.integers(1, 100), label=f"cost of {s}") for s in sizes}
    taken = cover(rows, costs)
    assert sum(taken) >= rows
    assert sum(taken[:-1]) < rows, "no bucket is padding alone"
    rest = rows % 16
    if not rest:
        return
    below = [s for s in sizes if rest & s]  # the rest, of full buckets alone
    one = next(s for s in sizes if s >= rest)
    spent = sum(costs[s] for s in taken[rows // 16 :])
    assert spent <= min(costs[one], sum(costs[s] for s in below))


def test_padding_is_taken_where_a_launch_costs_more():
    assert cover(5, {1: 10, 4: 10, 8: 11}) == (8,)
    assert cover(5, {1: 1, 4: 4, 8: 11}) == (4, 1)
    assert cover(1, guessed((1, 2, 4))) == (1,)
    assert cover(20, guessed((1, 2, 4, 8))) == (8, 8, 4)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_active_rows(lengths):
    expected = [sum(length > t for length in lengths) for t in range(max(lengths))]
    assert active_rows(np.array(lengths)).tolist() == expected


def test_active_rows_of_sorted_lengths_stand_in_front():
    lengths = np.array([3, 3, 1, 1, 1])
    for time, rows in enumerate(active_rows(lengths)):
        still = itertools.takewhile(lambda length, time=time: length > time, lengths.tolist())
        assert len(list(still)) == rows
