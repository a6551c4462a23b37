"""Inputs of every element type: what can't be run is found, in its own row."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.engine.cohort import Cohort
from carousel_server.engine.inputs import find_faults
from carousel_server.spec import ModelSpec, TensorSpec
from tests.support.steps import batch_of


def found(dtype: str, data: bytes, lengths: list[int], **bounds: int) -> dict[int, str]:
    """Return the faulty rows of a message with one input of scalars."""
    tensor = TensorSpec("k", np.dtype(dtype), (), **bounds)
    spec = ModelSpec(inputs=(tensor,), outputs=(), states=(), time_axis=True)
    batch, _ = batch_of([(1, np.zeros((length, 2))) for length in lengths])
    batch.inputs = (data,)
    return dict(find_faults(Cohort([batch], spec), spec))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_floats(dtype):
    values = np.array([1, np.nan, 2, -np.inf, np.inf, 3], dtype)
    rows = found(dtype, values.tobytes(), [1, 2, 3])
    assert rows == {
        1: "input 'k' is nan at step 0 of the row; a finite number was expected",
        2: "input 'k' is -inf at step 0 of the row; a finite number was expected",
    }


@pytest.mark.parametrize("dtype", ["|i1", "<i2", "<i4", "<i8", "|u1"])
def test_integers(dtype):
    values = np.array([0, 9, 10, 100, 5], dtype)
    rows = found(dtype, values.tobytes(), [2, 2, 1], minimum=-1000, maximum=9)
    assert rows == {1: "input 'k' is 10 at step 0 of the row; -1000 to 9 was expected"}
    assert found(dtype, values.tobytes(), [2, 2, 1]) == {}
    below = found(dtype, values.tobytes(), [1, 4], minimum=1)
    assert below == {0: "input 'k' is 0 at step 0 of the row; 1 to any was expected"}


def test_truth_values():
    assert found("|b1", b"\x00\x01\x00", [1, 2]) == {}
    rows = found("|b1", b"\x00\x01\x02", [1, 2])
    assert rows == {1: "input 'k' is 2 at step 1 of the row; 0 or 1 was expected"}


def test_rows_without_steps_between_others():
    values = np.array([1, np.nan], "<f4")
    rows = found("<f4", values.tobytes(), [0, 1, 0, 1, 0])
    assert sorted(rows) == [0, 2, 3, 4]
    assert rows[3].startswith("input 'k' is nan")
    assert rows[2] == "the row has no steps; a chunk has at least one"
