"""Parts of the examples that train a network, each by itself."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from carousel_exporter.sequences import Sequences
from examples.common.equality import check_equal
from examples.common.errors import DemoError
from examples.demand.calendar import COLUMNS, DAY, WEEK, describe, write_with_calendar
from examples.demand.scoring import judge
from examples.demand.streaming import Track
from examples.text.book import QUICK, find_text, write_text
from examples.text.picture import layout
from examples.vowels.choose import FOLDS, folds
from examples.vowels.hearing import hear
from examples.vowels.picture import hesitant
from examples.vowels.settings import SETTINGS, flags
from examples.vowels.utterances import read_test, read_train


def answers(*classes: int) -> np.ndarray:
    """Return log-probabilities of two classes, sure of these."""
    return np.log(np.where(np.eye(2)[list(classes)] > 0, 0.9, 0.1)).astype(np.float32)


def spoken(*labels: list[int]) -> Sequences:
    values = tuple(np.zeros((len(each), 1)) for each in labels)
    names = tuple(map(str, range(len(labels))))
    return Sequences(("x",), ("a", "b"), values, tuple(map(np.array, labels)), names, {})


def test_wrong_answers_are_no_success():
    right = np.array([1000.0, 0.5])
    assert "off by 5.0e-06 at most" in check_equal([(right, right), (right + 5e-6, right)])
    assert "off by 1.0e-06" in check_equal([(right * (1 + 1e-6), right)])
    for wrong in (right + np.array([0, 2e-5]), right * np.array([np.nan, 1])):
        with pytest.raises(DemoError, match="is off by"):
            check_equal([(right, right), (wrong, right), (right, right)])


def test_an_utterances_last_answer_stays():
    test = spoken([0, 0, 0], [1])
    found = hear([answers(1, 0, 0), answers(1)], test)
    assert found.right.tolist() == [0.5, 1, 1]
    assert found.speaking.tolist() == [2, 1, 1]
    np.testing.assert_allclose(found.milliseconds, [6.4, 12.8, 19.2])


def test_the_utterance_that_is_drawn_was_known_late():
    test = spoken([0, 0, 0], [1, 1, 1], [1, 1, 1])
    assert hesitant([answers(0, 0, 0), answers(0, 0, 1), answers(0, 0, 0)], test) == 1


def test_the_data_are_what_their_readme_says():
    train, test = read_train(), read_test()
    assert (len(train.values), len(test.values)) == (270, 370)
    lengths = [len(values) for values in (*train.values, *test.values)]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert [sum(labels[0] == c for labels in train.labels) for c in range(9)] == [30] * 9
    counts = [sum(labels[0] == c for labels in test.labels) for c in range(9)]
    assert (min(counts), max(counts)) == (24, 88)


def test_each_utterance_is_left_out_once():
    data = read_train()
    left_out = [name for _, held_out in folds(data) for name in held_out.names]
    assert sorted(left_out) == sorted(data.names)
    for known, held_out in folds(data):
        assert not {*known.names} & {*held_out.names}
        assert len(held_out.values) == len(data.values) // FOLDS


def test_settings_become_options():
    assert flags({"label_smoothing": 0.1, "cell": "gru"}) == [
        "--label-smoothing", "0.1", "--cell", "gru",
    ]  # fmt: skip
    assert "--recurrent-dropout" in flags(SETTINGS)


def test_the_calendar_repeats_by_day_and_week():
    monday, saturday = datetime(2000, 6, 5, 6), datetime(2000, 6, 10, 6)
    assert describe(monday) == pytest.approx((1, 0, np.sin(np.pi / 14), np.cos(np.pi / 14), 0, 0))
    assert describe(saturday)[-2:] == (1, 1)
    assert describe(datetime(2000, 6, 9))[-2:] == (0, 1)  # a Friday, and what comes after it
    assert describe(datetime(2000, 6, 12, 6)) == pytest.approx(describe(monday))


def test_the_calendar_is_written_beside_the_demand(tmp_path):
    write_with_calendar(tmp_path / "d.csv")
    header, first, *rest = (tmp_path / "d.csv").read_text().splitlines()
    assert header == ",".join(("time", "demand", *COLUMNS))
    assert first.startswith("2000-06-05 00:00,22262,0,1,")
    assert len(rest) == 4031
    assert rest[-1].startswith("2000-08-27 23:30,")


def test_sessions_are_judged_by_their_age():
    demand = np.arange(3.0 * WEEK)
    first, ages = 2 * WEEK, 4
    old = Track(0, demand + DAY + 2)  # off by 2, always
    new = [Track(start, demand[start:] + DAY + 7) for start in (first, first + 10)]
    found = judge([old, *new], demand, first=first, ages=ages)
    assert found.old == 2
    assert found.naive == WEEK  # a week before was a week's growth less
    assert found.half_hours == WEEK - DAY
    assert found.new.tolist() == [7] * ages
    assert found.beside.tolist() == [2] * ages


def test_without_a_text_it_learns_from_the_documentation(monkeypatch, tmp_path):
    monkeypatch.delenv("CAROUSEL_TEST_DATA", raising=False)
    found, told = find_text(None)
    assert told == "Carousel's own documentation"
    assert "Sessions outlive servers" in found or "Carousel serves recurrent networks" in found
    assert len(found) > QUICK
    write_text(found, tmp_path / "b.txt", quick=True)
    assert len((tmp_path / "b.txt").read_text(encoding="utf-8")) == QUICK


def test_a_published_text_is_taken_where_it_is(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tinyshakespeare.txt").write_text("To be")
    monkeypatch.setenv("CAROUSEL_TEST_DATA", str(tmp_path))
    assert find_text(None)[0] == "To be"
    (tmp_path / "own.txt").write_text("mine")
    assert find_text(tmp_path / "own.txt") == ("mine", str(tmp_path / "own.txt"))


def test_a_passage_is_folded_where_a_line_ends_or_is_full():
    assert layout("ab\nc") == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert layout("x" * 73)[-1] == (1, 0)
