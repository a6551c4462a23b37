"""All writes come last, and only where all went well."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.errors import RunError
from tests.support import guards, models
from tests.support.loaded import load, run, states


def steps(*values: float) -> np.ndarray:
    """Return one step's inputs `[B, 2]`, a value a row."""
    return np.repeat(np.array(values, np.float32)[:, None], 2, axis=1)


def test_a_context_state_is_read_before_it_is_written(tmp_path):
    model = load(tmp_path, guards.context())
    seen = [run(model, [1, 2], steps(k, 10 * k))[0][:, 0].tolist() for k in (1, 2, 3)]
    assert seen == [[0, 0], [1, 10], [2, 20]]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_delay_line_whatever_the_order_of_its_writes(tmp_path, swapped):
    model = load(tmp_path, guards.delay_line(swapped=swapped))
    seen = [run(model, [4, 1], steps(k, 10 * k))[0][:, 0].tolist() for k in (1, 2, 3, 4)]
    assert seen == [[0, 0], [0, 0], [1, 10], [2, 20]]


@pytest.mark.parametrize("through", ["state", "output"])
def test_a_run_that_raises_late_has_written_nothing_for_anybody(tmp_path, through):
    model = load(tmp_path, guards.raises_late(through=through))
    run(model, [1, 2], steps(1, 2))
    with pytest.raises(RunError, match="out of data bounds"):
        run(model, [1, 2, 3], steps(1, 99, 1))
    for value in states(model, 1, 2, 3).values():
        assert value[:, 0].tolist() == [1, 2, 0]
    y, bad = run(model, [1, 2, 3], steps(3, 3, 3))
    assert y[:, 0].tolist() == [4, 5, 3]
    assert bad == [False] * 3


@pytest.mark.parametrize("in_state", [True, False])
def test_a_row_that_overflows_keeps_its_state_and_harms_no_other(tmp_path, in_state):
    model = load(tmp_path, guards.overflowing(in_state=in_state))
    before = np.array([[5, 5], [6, 6], [7, 7]], np.float32)
    model.write(np.array([1, 2, 3]), {"s": before})
    x = np.zeros((2, 3, 2), np.float32)
    x[1, 1, 0] = 3e38  # one element, in the last step
    _, bad = run(model, [1, 2, 3], x)
    assert bad == [False, True, False]
    after = states(model, 1, 2, 3)["s"]
    np.testing.assert_array_equal(after[1], before[1])
    factor = np.float32(1e30 if in_state else 1)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]] * factor)


def test_what_overflows_behind_a_rows_end_does_not_count(tmp_path):
    model = load(tmp_path, guards.overflowing(in_state=False))
    x = np.zeros((3, 2, 2), np.float32)
    x[0, :, 0] = 1
    x[1:, 0] = np.nan
    x[2, 1] = np.inf
    y, bad = run(model, [1, 2], x, [1, 2])
    assert bad == [False, False]
    assert y[0, 0, 0] == y[1, 1, 0] == np.float32(1e30)
    assert states(model, 1, 2)["s"][:, 0].tolist() == [1, 1]
    assert run(model, [1, 2], x, [1, 3])[1] == [False, True]


def test_one_state_that_overflows_keeps_the_rows_others_too(tmp_path):
    model = load(tmp_path, guards.two_sums())
    run(model, [1, 2], steps(1, 1))
    model.write(np.array([1]), {"a": steps(1), "b": steps(3e38)})
    _, bad = run(model, [1, 2], steps(3e38, 3e38))
    assert bad == [True, False]
    after = states(model, 1, 2)
    assert after["a"][:, 0].tolist() == [1, np.float32(3e38)]
    assert after["b"][:, 0].tolist() == [np.float32(3e38)] * 2


@pytest.mark.parametrize("form", [models.STEP, models.SEQUENCE])
def test_an_output_without_its_batch_axis_lets_no_state_be_written(tmp_path, form):
    model = load(tmp_path, guards.batchless(form=form))
    x = steps(1, 2) if form == models.STEP else steps(1, 2)[None]
    with pytest.raises(RunError):
        run(model, [1, 2], x)
    assert not states(model, 1, 2)["s"].any()


def test_scratch_rows_may_stand_there_many_times(tmp_path):
    model = load(tmp_path, models.running_sum())
    run(model, [0, 3, 0, 0], steps(1, 2, 3, 4))
    assert states(model, 3)["s"].tolist() == [[2, 2]]
