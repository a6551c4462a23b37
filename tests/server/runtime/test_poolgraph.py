"""The pool graph computes what the bare model does, with its states in place."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.errors import ModelFileError
from tests.support import models
from tests.support.loaded import load, run, states
from tests.support.solo import solo_answers

RNG = np.random.default_rng(0)
DTYPES = {"float16": models.FLOAT16, "float64": models.FLOAT64, "int64": models.INT64}


@pytest.mark.parametrize("opset", range(11, 22))
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_an_lstm_gives_what_onnx_runtime_gives_alone(tmp_path, opset, batch):
    made = models.lstm(opset=opset)
    model = load(tmp_path, made)
    lengths = [1 + row % 4 for row in range(batch)]
    x = RNG.normal(size=(2, max(lengths), batch, 3)).astype(np.float32)
    slots = [8 - row for row in range(batch)]
    first, _ = run(model, slots, x[0], lengths)
    second, bad = run(model, slots, x[1], lengths)
    assert bad == [False] * batch
    for row, length in enumerate(lengths):
        expected = solo_answers(made, np.concatenate([x[0, :length, row], x[1, :length, row]]))
        got = np.concatenate([first[:length, row], second[:length, row]])
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("opset", range(11, 22))
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_step_at_a_time(tmp_path, opset, batch):
    model = load(tmp_path, models.running_sum(opset=opset))
    x = RNG.integers(0, 100, (3, batch, 2)).astype(np.float32)
    slots = list(range(1, batch + 1))
    answers = np.stack([run(model, slots, step)[0] for step in x])
    np.testing.assert_array_equal(answers, x.cumsum(axis=0))
    np.testing.assert_array_equal(states(model, *slots)["s"], x.sum(axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_states_of_other_types(tmp_path, dtype):
    model = load(tmp_path, models.running_sum(dtype=DTYPES[dtype]))
    x = np.array([[1, 2], [3, 4]]).astype(dtype)
    for _ in range(2):
        y, bad = run(model, [2, 5], x)
    np.testing.assert_array_equal(y, 2 * x)
    assert y.dtype == dtype
    assert bad == [False, False]
    np.testing.assert_array_equal(states(model, 5)["s"], 2 * x[1:])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_overflow_in_other_types(tmp_path, dtype):
    model = load(tmp_path, models.running_sum(dtype=DTYPES[dtype]))
    large = np.finfo(dtype).max
    x = np.array([[large, 0], [1, 0]], dtype)
    assert run(model, [1, 2], x)[1] == [False, False]
    assert run(model, [1, 2], x)[1] == [True, False]
    np.testing.assert_array_equal(states(model, 1, 2)["s"][:, 0], np.array([large, 2], dtype))


def test_the_pool_is_updated_in_place(tmp_path):
    model = load(tmp_path, models.running_sum())
    before = model.pool.tensors["s"].data_ptr()
    run(model, [3], np.ones((1, 2), np.float32))
    assert model.pool.tensors["s"].data_ptr() == before
    assert np.flatnonzero(model.pool.tensors["s"].numpy().any(axis=1)).tolist() == [3]


def test_runs_of_the_same_shape_do_not_share_their_answers(tmp_path):
    model = load(tmp_path, models.running_sum())
    first, _ = run(model, [1], np.ones((1, 2), np.float32))
    second, _ = run(model, [1], np.ones((1, 2), np.float32))
    assert (first[0, 0], second[0, 0]) == (1, 2)


def test_an_opset_without_scatter_is_refused_in_words(tmp_path):
    with pytest.raises(ModelFileError, match="its opset is 10; 11 or later is served"):
        load(tmp_path, models.running_sum(opset=10))
