import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carousel_exporter import data
from carousel_exporter.errors import DataError, SettingsError

CSV = "date,a,b\n2020-01-01,,1\n2020-01-02,2,\n2020-01-03,NaN,3\n2020-01-04,4,4\n"


def test_missing_values_take_the_one_before(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(CSV)
    series = data.read_series(path)
    assert series.columns == ("a", "b")  # the dates are left out
    assert series.labels == ("2020-01-02", "2020-01-03", "2020-01-04")
    assert series.dropped == 1
    assert series.filled == {"a": 1, "b": 1}
    # b was missing at the second line, and takes the 1 of the dropped first one.
    np.testing.assert_array_equal(series.values, [[2, 1], [2, 3], [4, 4]])


def test_columns_are_chosen_in_the_order_asked_for(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(CSV)
    series = data.read_series(path, ["b", "a"])
    assert series.columns == ("b", "a")
    np.testing.assert_array_equal(series.select(["a"]), [[2], [2], [4]])


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("a,b\n1,2\n", ["c"], ["'c'", "a, b"]),
        ("a\n1\nx\n", ["a"], ["Line 3", "'a'", "'x'"]),
        ("a\n1\ninf\n", ["a"], ["Line 3", "'inf'", "finite"]),
        ("date\nmonday\n", [], ["no column of numbers"]),
        ("date,a\nmonday,1\n", ["date"], ["Line 2", "'monday'"]),
        ("a,b\n1\n", [], ["Line 2 of", "has 1 cell where the header has 2."]),
        ("date;a\nmonday;1\n", [], ["only date;a", "separated by semicolons"]),
        ("date;a\nmonday;1,5\n", [], ["Line 2 of", "separated by semicolons"]),
        ("a,a\n1,2\n", [], ["one name"]),
        ("a,b\n,1\n", [], ["'a'", "no values"]),
        ("a\n", [], ["header"]),
        ("", [], ["header"]),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, columns, words):
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        data.read_series(path, columns)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no file .*gone\.csv"):
        data.read_series(tmp_path / "gone.csv")


@given(
    columns=st.lists(
        st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=6, max_size=6),
        min_size=1,
        max_size=3,
    )
)
def test_filling_equals_a_loop(columns):
    values = np.array([[np.nan if v is None else v for v in c] for c in columns], float).T
    filled, dropped, counts = data.fill_forward(values)
    expected = values.copy()
    for step in range(1, len(values)):
        gap = np.isnan(expected[step])
        expected[step, gap] = expected[step - 1, gap]
    np.testing.assert_array_equal(filled, expected[dropped:])
    assert not np.isnan(filled).any()
    assert np.isnan(expected[:dropped]).any(axis=1).all()
    np.testing.assert_array_equal(counts, np.isnan(values[dropped:]).sum(axis=0))


@given(
    length=st.integers(40, 2000),
    validation=st.floats(0.1, 0.4),
    test=st.floats(0.1, 0.4),
    horizon=st.integers(1, 2),
)
def test_the_parts_of_a_split_are_in_order_and_whole(length, validation, test, horizon):
    split = data.split_by_time(length, validation=validation, test=test, horizon=horizon)
    assert 0 < split.train < split.validation < split.test == length
    assert split.test - split.validation == round(length * test)


@pytest.mark.parametrize(
    "wrong", [{"validation": 0.0}, {"test": 1.0}, {"validation": 0.6, "test": 0.5}]
)
def test_a_split_without_room_is_refused(wrong):
    with pytest.raises(SettingsError, match="fractions"):
        data.split_by_time(100, horizon=1, **({"validation": 0.1, "test": 0.1} | wrong))


def test_a_series_too_short_for_its_horizon_is_refused():
    with pytest.raises(SettingsError, match="too short for a horizon of 9"):
        data.split_by_time(60, validation=0.15, test=0.15, horizon=9)


def test_a_constant_column_is_not_blown_up():
    found = data.statistics(np.column_stack([np.full(5, 0.1), [1, 2, 3, 4, 5]]))
    np.testing.assert_allclose(found.scale, [1, np.sqrt(2)])
