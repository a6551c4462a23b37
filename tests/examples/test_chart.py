"""The chart: every dot where its value is."""

import numpy as np
import pytest

from examples.co2.chart import Axes, braille, dot_rows, draw_chart, resample, round_step

AXES = Axes(low=0.0, high=8.0)


def test_a_dot_is_the_bit_of_its_place_in_a_braille_character():
    # Two characters of four dot rows: low left, then up by one dot a column.
    cells = braille(np.array([1.0, 3.0, 5.0, 7.0]), AXES, columns=2, rows=1)
    assert [chr(0x2800 + cell) for cell in cells[0]] == ["⡠", "⠊"]


def test_steep_parts_have_no_holes():
    cells = braille(np.array([0.0, 0.0, 8.0, 8.0]), AXES, columns=2, rows=4)
    right = cells[:, 1]
    assert (right > 0).all()  # the rise is drawn through every row


def test_nan_is_a_gap():
    values = np.array([1.0, 1.0, np.nan, np.nan, 1.0, 1.0])
    cells = braille(values, AXES, columns=3, rows=1)[0]
    assert [bool(cell) for cell in cells] == [True, False, True]


def test_a_line_that_has_not_come_leaves_the_chart_empty():
    nothing = np.full(10, np.nan)
    text = draw_chart(nothing, nothing, AXES, width=20, height=4).plain
    assert not set(text) - set("│┤└─ \n02468.5")


@pytest.mark.parametrize(
    ("value", "row"), [(8.0, 0), (7.9, 0), (4.1, 1), (3.9, 2), (0.0, 3), (-5.0, 3), (99.0, 0)]
)
def test_values_lie_in_their_row_and_those_beyond_at_the_edge(value, row):
    assert dot_rows(np.array([value]), AXES, 4).tolist() == [row]


def test_resampling_goes_between_neighbours_and_keeps_the_ends():
    assert resample(np.array([0.0, 2.0, 4.0]), 5).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert np.isnan(resample(np.array([0.0, np.nan]), 3)).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("least", "step"), [(1, 1), (1.1, 2), (3, 5), (5.1, 10), (0.03, 0.05), (200, 200)]
)
def test_the_scale_has_round_steps(least, step):
    assert round_step(least) == pytest.approx(step)


def test_lines_keep_to_the_width_and_marks_lie_where_their_values_do():
    wave = 4 + 3 * np.sin(np.linspace(0, 9, 200))
    axes = Axes(low=0.0, high=8.0, names=[(0, "first"), (100, "middle"), (199, "no room")])
    lines = draw_chart(wave, wave, axes, width=60, height=8).plain.splitlines()
    assert len(lines) == 10
    assert max(map(len, lines)) == 60
    assert "first" in lines[-1]
    assert "middle" in lines[-1]
    assert "no room" not in lines[-1]
    left = 60 - len(lines[-2].split("└")[1])  # the first column of the plot
    expected = dot_rows(resample(wave, 60 - left), axes, 8)
    for column in range(0, 60 - left, 2):
        assert lines[expected[column]][left + column] == "•"
