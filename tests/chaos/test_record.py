"""The check itself: it finds what it is there to find."""

from __future__ import annotations

import numpy as np
import pytest

from tests.chaos.crowd import FEATURES
from tests.chaos.record import Track, _uninterrupted, compare

STEPS = 40


@pytest.fixture
def track(model) -> Track:
    """A session that was answered well, a step at a time."""
    x = np.random.default_rng(5).normal(size=(STEPS, FEATURES)).astype(np.float32)
    (y,) = _uninterrupted(model, [x])
    track = Track("good")
    for step in range(STEPS):
        track.take(x[step : step + 1], y[step : step + 1])
    return track


def test_good_answers_are_good(track, model):
    assert compare([track, Track("nothing yet")], model) == STEPS


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda y: y.insert(20, y.pop(21)), r"2 of 40 answers are wrong, the first at step 20"),
        (lambda y: y.__setitem__(20, y[19]), r"1 of 40 .* at step 20: .* answer of step \[19\]"),
        (lambda y: y.__setitem__(7, y[7] + 1e-4), "at step 7: .* no other step's either"),
        (lambda y: y.__setitem__(7, y[7] * np.nan), "at step 7"),
    ],
    ids=["two exchanged", "one twice", "one wrong", "one not a number"],
)
def test_wrong_answers_are_found(track, model, spoil, words):
    spoil(track.answered)
    with pytest.raises(AssertionError, match=words):
        compare([track], model)


def test_a_step_that_was_applied_twice_is_found(track, model):
    twice = np.concatenate([*track.sent[:11], *track.sent[10:]])
    (y,) = _uninterrupted(model, [twice])
    track.answered = list(np.delete(y, 10, axis=0)[:, np.newaxis])
    with pytest.raises(AssertionError, match="the first at step 10"):
        compare([track], model)


def test_answers_that_are_missing_are_found(track):
    with pytest.raises(AssertionError, match="2 steps were sent, 1 answered"):
        track.take(np.zeros((2, FEATURES), np.float32), np.zeros((1, 2), np.float32))
