"""Scoring: what is equal, what is better, and that a broken claim is told."""

import numpy as np
import pytest

from examples.co2.scoring import (
    LSTM,
    Agreement,
    agree,
    broken_claims,
    compare_forecasts,
    difference,
)
from examples.co2.sessions import make_plan

SERIES = np.arange(40, dtype=np.float64)[:, None]  # (N, 1): one more each week


def reference(start):
    return (SERIES[start:] * 10).astype(np.float32)


@pytest.fixture
def plan():
    made = make_plan([0, 8])
    for track in made.tracks:
        answers = reference(track.start)
        track.take(answers[:20])
        for answer in answers[20:]:
            track.take(answer)  # (1,)
    return made


@pytest.fixture
def good():
    return [Agreement("weekly", answers=3, calls=1, largest=1e-6, allowed=1e-5)]


@pytest.mark.parametrize(
    ("value", "off", "equal"),
    [(0.5, 0.9e-5, True), (0.5, 1.1e-5, False), (400.0, 3.9e-3, True), (400.0, 4.1e-3, False)],
)
def test_equal_is_relative_to_the_reference_and_absolute_below_one(value, off, equal):
    # In double precision, so that the difference is what the test says.
    whole = np.full((3, 1), value)
    streamed = whole + np.array([[0.0], [off], [0.0]])
    largest, allowed = difference(streamed, whole)
    assert largest == pytest.approx(off, rel=1e-6)
    assert (largest <= allowed) is equal


@pytest.mark.parametrize("answers", [np.zeros((2, 1)), np.array([[0.0], [np.nan], [0.0]])])
def test_a_missing_answer_or_one_that_is_no_number_is_never_equal(answers):
    largest, allowed = difference(answers.astype(np.float32), np.zeros((3, 1), np.float32))
    assert not largest <= allowed


def test_all_ways_of_streaming_are_compared_each_from_its_own_start(plan):
    found = agree(plan, reference)
    assert [f.equal for f in found] == [True] * 4
    assert [f.answers for f in found] == [40, 40, 40, 40 + 32]
    assert [f.calls for f in found] == [21, 21, 21, 21]


def test_one_wrong_answer_of_one_session_of_the_group_is_found(plan):
    plan.group[1].chunks[5] = plan.group[1].chunks[5] + np.float32(0.1)
    assert [f.equal for f in agree(plan, reference)] == [True, True, True, False]


def test_forecasts_are_judged_on_the_weeks_that_they_speak_of():
    perfect = (SERIES + 4).astype(np.float32)  # answer t is the value of week t + 4
    scores = compare_forecasts(perfect, SERIES, first=30, horizon=4, season=10)
    assert scores[LSTM].mae[0] == 0
    assert scores["persistence"].mae[0] == 4  # four weeks behind
    assert scores["seasonal naive"].mae[0] == 10  # a season behind


def test_claims_that_hold_are_not_broken(good):
    scores = compare_forecasts(
        (SERIES + 4).astype(np.float32), SERIES, first=30, horizon=4, season=10
    )
    assert broken_claims(good, scores) == []


@pytest.mark.parametrize("off", [4.0, np.nan])
def test_a_forecast_that_beats_nothing_breaks_a_claim(good, off):
    # As good as persistence is not better, and no number at all is not either.
    answers = (SERIES + 4 + off).astype(np.float32)
    scores = compare_forecasts(answers, SERIES, first=30, horizon=4, season=10)
    assert "no better than persistence" in " ".join(broken_claims(good, scores))


def test_answers_that_differ_break_a_claim():
    scores = compare_forecasts(
        (SERIES + 4).astype(np.float32), SERIES, first=30, horizon=4, season=10
    )
    bad = Agreement("chunks of 4", answers=3, calls=1, largest=2e-5, allowed=1e-5)
    (sentence,) = broken_claims([bad], scores)
    assert "chunks of 4" in sentence
    assert "2.0e-05" in sentence
