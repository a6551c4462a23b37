"""Answers with names: labels, the likeliest few, and draws that follow the probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import carousel_client as carousel
from carousel_client._classes import Classes, draw

NAMES = ("calm", "windy", "storm")
P = np.array([[0.2, 0.7, 0.1], [0.5, 0.0, 0.5]])


def classes(array=P, content="probabilities"):
    return Classes(np.asarray(array), NAMES, content)


def test_labels_are_the_most_probable_names():
    assert classes().labels == ["windy", "calm"]  # the first of two alike
    assert classes(P[0]).labels == "windy"
    assert classes(P[:0]).labels == []
    assert classes([P, P[::-1]]).labels == [["windy", "calm"], ["calm", "windy"]]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_either_content_gives_both(dtype):
    with np.errstate(divide="ignore"):
        logs = np.log(P)
    tolerance = {"atol": 5 * np.finfo(dtype).eps}
    for found in (classes(P.astype(dtype)), classes(logs.astype(dtype), "log_probabilities")):
        np.testing.assert_allclose(found.probabilities, P, **tolerance)
        np.testing.assert_allclose(found.log_probabilities[0], logs[0], rtol=1e-2)
        assert found.log_probabilities[1, 1] == -np.inf
        assert found.labels == ["windy", "calm"]


def test_the_likeliest_few_come_in_order():
    assert classes().top(2) == [[("windy", 0.7), ("calm", 0.2)], [("calm", 0.5), ("storm", 0.5)]]
    assert classes(P[0]).top(9) == [("windy", 0.7), ("calm", 0.2), ("storm", 0.1)]
    assert classes(np.log(P[:1]), "log_probabilities").top(1)[0][0] == ("windy", pytest.approx(0.7))
    with pytest.raises(carousel.InvalidInput, match="at least 1, but is 0"):
        classes().top(0)


def test_numpy_takes_it_for_its_array():
    found = classes()
    assert np.asarray(found) is found.array
    assert np.array_equal(np.add(found, 1), P + 1)
    assert np.array(found, dtype=np.float32, copy=True).dtype == np.float32


def test_steps_are_chosen_like_an_arrays():
    found = classes()
    assert len(found) == 2
    assert found[-1].labels == "calm"
    assert found[:1].labels == ["windy"]
    assert [step.labels for step in found] == ["windy", "calm"]
    assert repr(found) == "<Classes [2, 3] of 3: ['windy', 'calm']>"
    with pytest.raises(TypeError, match="one step"):
        found[0][0]
    with pytest.raises(IndexError):
        found[2]


def test_an_array_of_another_width_is_refused():
    with pytest.raises(carousel.InvalidInput, match=r"\[\.\.\., 3\], but got \[2, 2\]"):
        classes(P[:, :2])
    with pytest.raises(carousel.InvalidInput, match=r"but got \[\]"):
        classes(0.5)


def test_draws_follow_the_probabilities():
    many = 20_000
    p = np.array([0.2, 0.7, 0.1])
    for temperature in (0.5, 1.0, 2.0):
        expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
        steps = np.broadcast_to(np.log(p), (many, 3))
        drawn = draw(steps, 0, temperature=temperature)
        found = np.bincount(drawn, minlength=3) / many
        deviation = np.sqrt(expected * (1 - expected) / many)
        assert (np.abs(found - expected) < 4 * deviation).all(), (temperature, found, expected)


def test_the_same_seed_draws_the_same():
    steps = classes(np.full((50, 3), 1 / 3))
    assert steps.sample(7) == steps.sample(7) == steps.sample(np.random.default_rng(7))
    assert steps.sample(7) != steps.sample(8)
    assert classes(P[0]).sample(0) in NAMES


@given(
    hnp.arrays(np.float64, (4, 5), elements=st.floats(-700, 0)),
    st.floats(1e-6, 1e6),
    st.integers(0, 2**32),
)
def test_what_has_no_probability_is_never_drawn(logs, temperature, seed):
    logs[:, [0, 2, 4]] = -np.inf
    assert set(draw(logs, seed, temperature=temperature).tolist()) <= {1, 3}


def test_without_warmth_the_most_probable_is_taken():
    assert classes().sample(temperature=0) == ["windy", "calm"]
    cold = classes(np.log(P[:1]), "log_probabilities")
    assert {cold.sample(seed, temperature=1e-300)[0] for seed in range(20)} == {"windy"}


@pytest.mark.parametrize("temperature", [-1, np.nan, np.inf])
def test_a_temperature_that_makes_no_sense_is_refused(temperature):
    with pytest.raises(carousel.InvalidInput, match="temperature"):
        classes().sample(temperature=temperature)


def test_nothing_is_drawn_from_nothing():
    with pytest.raises(carousel.InvalidInput, match="no class has a probability"):
        classes(np.zeros((1, 3))).sample()
