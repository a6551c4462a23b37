"""A chart in text: a line of Braille dots, eight to a character, and marks on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

Values = NDArray[np.float64]

#: Which bit each dot of a Braille character is, by row and column (Unicode, block U+2800).
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_BLANK = 0x2800
_MARK = "•"
_ROWS_A_LABEL = 3

LINE_STYLE = "cyan"
MARK_STYLE = "bold magenta"


@dataclass(frozen=True)
class Axes:
    """What a chart shows: values from `low` to `high`, and names for places along the bottom.

    A place is an index into the values.
    """

    low: float
    high: float
    names: Sequence[tuple[int, str]] = ()


def draw_chart(line: Values, marks: Values, axes: Axes, *, width: int, height: int) -> Text:
    """Draw two series of the same steps, (N,) each and NaN where there is nothing (yet).

    `width` is in characters with the scale at the left, `height` in lines without the names at
    the bottom. The two can be told apart without colours.
    """
    scale = _scale(axes, height)
    margin = max(map(len, scale.values()), default=0) + 2
    columns = width - margin
    dots = braille(line, axes, columns=columns, rows=height)
    marked = _mark_rows(marks, axes, columns=columns, rows=height)
    chart = Text(no_wrap=True, overflow="ignore")
    for row in range(height):
        chart.append(f"{scale[row]:>{margin - 2}} ┤" if row in scale else f"{'│':>{margin}}", "dim")
        for column in range(columns):
            if marked[column] == row:
                chart.append(_MARK, MARK_STYLE)
            else:
                # A space, not the Braille blank, which some fonts draw as empty circles.
                dot = dots[row, column]
                chart.append(chr(_BLANK + dot) if dot else " ", LINE_STYLE)
        chart.append("\n")
    chart.append(" " * (margin - 1) + "└" + "─" * columns + "\n", "dim")
    chart.append(" " * margin + _names(axes, len(line), columns), "dim")
    return chart


def braille(values: Values, axes: Axes, *, columns: int, rows: int) -> NDArray[np.int64]:
    """Draw (N,) values as a line, and return the offset of each Braille character, (rows, columns).

    Where values are NaN there is a gap.
    """
    heights = dot_rows(resample(values, 2 * columns), axes, 4 * rows)  # (2 * columns,)
    dots = np.zeros((4 * rows, 2 * columns), bool)
    for column, (before, here) in enumerate(zip([-1, *heights[:-1]], heights, strict=True)):
        if here >= 0:
            # Down or up from the middle of the step before, so that steep parts have no holes.
            other = here if before < 0 else before + int(np.sign(here - before))
            dots[min(other, here) : max(other, here) + 1, column] = True
    cells = dots.reshape(rows, 4, columns, 2).astype(np.int64)
    return np.asarray(np.einsum("rdcs,ds->rc", cells, _BITS))


def resample(values: Values, count: int) -> Values:
    """Read (N,) values at `count` places spread evenly, (count,); NaN beside a NaN."""
    places = np.linspace(0, len(values) - 1, count)
    left = np.floor(places).astype(int)
    right = np.minimum(left + 1, len(values) - 1)
    share = places - left
    between = (1 - share) * values[left] + share * values[right]
    return np.asarray(np.where(share == 0, values[left], between))


def dot_rows(values: Values, axes: Axes, rows: int) -> NDArray[np.int64]:
    """Return the row from the top in which each value lies; -1 for NaN, the edge for beyond."""
    share = (axes.high - values) / (axes.high - axes.low)
    places = np.clip(np.nan_to_num(share) * rows, 0, rows - 1).astype(np.int64)
    return np.where(np.isnan(values), -1, places)


def _mark_rows(marks: Values, axes: Axes, *, columns: int, rows: int) -> NDArray[np.int64]:
    """Return each column's row with a mark, -1 for none: every second column has one."""
    found = dot_rows(resample(marks, columns), axes, rows)
    found[1::2] = -1
    return found


def _scale(axes: Axes, height: int) -> dict[int, str]:
    """Return what stands left of some rows: round numbers, where they lie."""
    step = round_step((axes.high - axes.low) * _ROWS_A_LABEL / height)
    values = np.arange(np.ceil(axes.low / step), np.floor(axes.high / step) + 1) * step
    rows = dot_rows(values, axes, height)
    return {int(row): f"{value:g}" for row, value in zip(rows, values, strict=True)}


def round_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least))


def _names(axes: Axes, count: int, columns: int) -> str:
    line = ""
    for place, name in axes.names:
        column = round(place / max(1, count - 1) * (columns - 1))
        if len(line) <= column and column + len(name) <= columns:
            line = f"{line:<{column}}{name} "
    return line.rstrip()
