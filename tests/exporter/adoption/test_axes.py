"""Any layout goes to the common order and back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from carousel_exporter.adoption.axes import Axes


@st.composite
def layouts(draw):
    dims = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=5)))
    places = draw(st.permutations(range(len(dims))))
    batch = places[0] if draw(st.booleans()) else None
    time = places[1] if len(dims) > 1 and draw(st.booleans()) else None
    return Axes(dims, batch, time)


@given(axes=layouts(), rows=st.integers(1, 3), steps=st.integers(1, 3))
def test_there_and_back(axes, rows, steps):
    shape = axes.shape(rows, steps)
    array = np.arange(np.prod(shape)).reshape(shape)
    canonical = axes.canonical(array)
    lead = (1 if axes.time is None else steps, 1 if axes.batch is None else rows)
    assert canonical.shape == (*lead, *axes.step)
    np.testing.assert_array_equal(axes.original(canonical), array)


def test_rows_and_steps_come_first_and_the_rest_stays_in_order():
    axes = Axes((2, 9, 3, 9), batch=3, time=1)
    array = np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    np.testing.assert_array_equal(axes.canonical(array), array.transpose(1, 3, 0, 2))
