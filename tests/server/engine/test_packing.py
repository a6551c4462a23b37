"""Between rows laid end to end and the padded form of a run."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from carousel_server.engine.columns import spans
from carousel_server.engine.packing import pack, take, unpack


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_what_is_packed_comes_back(lengths, data):
    flat = np.arange(sum(lengths) * 2).reshape(-1, 2)
    steps = np.array(lengths)
    starts = np.cumsum(steps) - steps
    rows = data.draw(st.permutations(range(len(lengths))))
    rows = np.array(rows[: data.draw(st.integers(1, len(rows)))])
    packed = pack(flat, starts[rows], steps[rows], int(steps[rows].max()))
    assert packed.shape == (steps[rows].max(), len(rows), 2)
    for place, row in enumerate(rows):
        own = flat[starts[row] : starts[row] + steps[row]]
        np.testing.assert_array_equal(packed[: steps[row], place], own)
        assert (packed[steps[row] :, place] == own[-1]).all(), "padding is the last step"
    back = np.full_like(flat, -1)
    unpack(back, starts[rows], steps[rows], packed)
    mine = spans(starts[rows], steps[rows])
    np.testing.assert_array_equal(back[mine], flat[mine])
    assert (np.delete(back, mine, axis=0) == -1).all(), "nothing else was written"


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_take_is_indexing(places):
    flat = np.arange(20).reshape(10, 2)
    np.testing.assert_array_equal(take(flat, np.array(places)), flat[places])


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), max_size=6))
def test_spans(pairs):
    expected = [start + step for start, length in pairs for step in range(length)]
    starts, lengths = np.array(pairs, np.int64).reshape(-1, 2).T
    assert spans(starts, lengths).tolist() == expected
