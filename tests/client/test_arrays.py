"""What users may pass, and what they are told when it doesn't fit."""

import numpy as np
import pytest

import carousel_client as carousel
from carousel_client._arrays import answers, cast, initial_states, many_sessions, one_session
from carousel_client._models import TensorInfo, model_info
from tests.client.fake import MODELS

BOTH, SCALAR, SUM = (model_info(MODELS[i]) for i in (0, 1, 2))


def spec(dtype):
    return TensorInfo(name="x", dtype=np.dtype(dtype), shape=())


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.float64([1.5]), "<f4"),
        ([1, 2], "<f4"),
        ([True], "<f4"),
        ([1, 2], "|u1"),
        (np.int64([-3]), "|i1"),
        ([True], "<i8"),
        (np.array([1.0], ">f4"), "<f4"),
        (np.ones((4, 4), np.float32)[:, 1], "<f4"),
        ([], "<i8"),
    ],
)
def test_safe_casts(value, dtype):
    found = cast(spec(dtype), value)
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    assert np.array_equal(found, value)


@pytest.mark.parametrize(
    ("value", "dtype", "why"),
    [
        ([1.5], "<i8", "float64"),
        ([300], "|u1", "0 to 255"),
        ([-1], "|u1", "-1"),
        ([1j], "<f4", "complex"),
        (["a"], "<f4", "convert"),
        ([1, 2], "|b1", "int64"),
        ([None], "<f4", "object"),
        ([[1], [1, 2]], "<f4", "not an array"),
    ],
)
def test_unsafe_casts_are_refused_in_words(value, dtype, why):
    with pytest.raises(carousel.InvalidInput, match=why):
        cast(spec(dtype), value)


@pytest.mark.parametrize(
    ("value", "dtype", "why"),
    [
        ([1.5, 1e39], "<f4", r"1e\+39 is beyond float32, which ends at 3\.40e\+38"),
        (-1e300, "<f4", r"-1e\+300 is beyond float32"),
        (np.array([70000]), "<f2", "70000 is beyond float16"),
    ],
)
def test_a_finite_value_never_becomes_infinite(value, dtype, why):
    with pytest.raises(carousel.InvalidInput, match=why):
        cast(spec(dtype), value)


def test_a_value_that_is_infinite_is_left_to_the_server():
    assert np.isinf(cast(spec("<f4"), [np.inf])).all()


def test_one_session_takes_a_step_or_a_chunk():
    assert one_session(SUM, [1, 2]).form == "step"
    assert one_session(SUM, [[1, 2]]).form == "chunk"
    assert one_session(SCALAR, 3).inputs["x"].shape == (1,)
    assert one_session(SCALAR, [3, 4]).lengths.tolist() == [2]
    assert one_session(SUM, {"x": [1, 2]}).inputs["x"].tolist() == [[1, 2]]
    assert one_session(BOTH, {"a": [1, 2], "k": 3}).form == "step"


@pytest.mark.parametrize(
    ("model", "x", "why"),
    [
        (SUM, [1, 2, 3], r"takes \[2\] for one step or \[T, 2\] for T steps, but got \[3\]"),
        (SUM, np.ones((1, 1, 2)), "T steps"),
        (SUM, {"y": [1, 2]}, "expected the inputs 'x', but got 'y'"),
        (BOTH, [1, 2], "pass a dict with 'a', 'k'"),
        (BOTH, {"a": [[1, 2]], "k": [3, 4]}, "as many steps"),
        (BOTH, {"a": [[1, 2]], "k": 3}, "as many steps"),
    ],
)
def test_one_session_is_told_what_was_expected(model, x, why):
    with pytest.raises(carousel.InvalidInput, match=why):
        one_session(model, x)


def test_groups_take_steps_chunks_and_ragged_lists():
    assert many_sessions(SUM, np.ones((3, 2)), 3).form == "step"
    assert many_sessions(SUM, [[1, 2]] * 3, 3).form == "step"
    found = many_sessions(SUM, np.arange(12).reshape(3, 2, 2), 3)
    assert found.form == "chunk"
    assert found.inputs["x"].shape == (6, 2)
    ragged = many_sessions(SUM, [np.ones((2, 2)), [], np.ones((1, 2))], 3)
    assert ragged.form == "ragged"
    assert ragged.lengths.tolist() == [2, 0, 1]
    assert many_sessions(SCALAR, [1, 2, 3], 3).form == "step"
    both = {"a": [np.ones((2, 2)), np.ones((1, 2))], "k": [[1, 2], [3]]}
    assert many_sessions(BOTH, both, 2).lengths.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("model", "x", "why"),
    [
        (SUM, np.ones((4, 2)), "3 sessions"),
        (SUM, np.ones((3, 2, 3)), "3 sessions"),
        (SUM, [np.ones((2, 2))] * 2, "each of 3 sessions"),
        (SUM, [np.ones((2, 2)), np.ones((2, 3)), np.ones((2, 2))], "row 1"),
        (BOTH, {"a": np.ones((3, 2)), "k": np.ones((3, 4), int)}, "'k' differs"),
    ],
)
def test_groups_are_told_what_was_expected(model, x, why):
    with pytest.raises(carousel.InvalidInput, match=why):
        many_sessions(model, x, 3)


def test_answers_have_the_form_of_the_inputs():
    flat, lengths = {"y": np.arange(12.0).reshape(6, 2)}, np.array([2, 2, 2])
    assert answers(SUM, flat, lengths, "chunk", grouped=True).shape == (3, 2, 2)
    parts = answers(SUM, flat, np.array([1, 0, 5]), "ragged", grouped=True)
    assert [part.shape for part in parts] == [(1, 2), (0, 2), (5, 2)]
    assert answers(SUM, flat, np.array([6]), "chunk", grouped=False).shape == (6, 2)
    one = answers(SUM, {"y": np.ones((1, 2))}, np.array([1]), "step", grouped=False)
    assert one.shape == (2,)


def test_initial_states_are_checked():
    assert initial_states(SUM, {"total": [[1, 2]]}, 1)["total"].dtype == np.float32
    with pytest.raises(carousel.InvalidInput, match="has the states 'total', but got 'h'"):
        initial_states(SUM, {"h": [[1, 2]]}, 1)
    with pytest.raises(carousel.InvalidInput, match=r"\[2, 2\], but got \[1, 2\]"):
        initial_states(SUM, {"total": [[1, 2]]}, 2)
