"""Series: reading them from CSV, splitting them by time, the statistics that normalise them."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carousel_exporter.errors import DataError, SettingsError
from carousel_exporter.wording import counted

Array = NDArray[np.float64]

#: What stands for a missing value, in lower case.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})


@dataclass(frozen=True)
class Series:
    """Columns of numbers over time, without gaps.

    `values` is (N, C) in plain units, one column for each of `columns`. `labels` are the cells of
    the file's first text column (dates, say), N of them, or none. `dropped` counts the leading
    rows that were left out because a column had no value yet, `filled` the cells of each column
    that took the value before them.
    """

    columns: tuple[str, ...]
    values: Array
    labels: tuple[str, ...]
    dropped: int
    filled: dict[str, int]

    def select(self, columns: Sequence[str]) -> Array:
        """Return the named columns, (N, len(columns))."""
        return self.values[:, [self.columns.index(name) for name in columns]]


@dataclass(frozen=True)
class Split:
    """Three parts of a series in the order of time: training, validation, test.

    Each field is the step at which its part ends and the next begins; `test` is the length of the
    series.
    """

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Statistics:
    """A mean and a scale for each column, (C,) each, in the columns' units."""

    mean: Array
    scale: Array


def read_series(path: Path, columns: Sequence[str] = ()) -> Series:
    """Read columns of a CSV file with a header line; by default every column of numbers.

    Missing values take the one before them; rows before every column has begun are dropped.
    Raises DataError naming the file, the line and the column.
    """
    header, rows = read_cells(path)
    wanted = tuple(dict.fromkeys(columns))
    unknown = [name for name in wanted if name not in header]
    if unknown:
        raise DataError(
            f"{path} has no column {unknown[0]!r}; its columns are {', '.join(header)}."
        )
    cells = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    text = [name for name in header if _is_text(cells[name])]
    wanted = wanted or tuple(name for name in header if name not in text)
    if not wanted:
        raise DataError(
            f"{path} has no column of numbers, only {', '.join(header)}.{_semicolons(header)}"
        )
    raw = np.stack([_numbers(path, name, cells[name]) for name in wanted], axis=1)  # (N, C)
    complete, dropped, filled = fill_forward(raw)
    if not len(complete):
        empty = wanted[int(np.argmax(np.isnan(raw).all(axis=0)))]
        raise DataError(f"Column {empty!r} of {path} holds no values.")
    labels = tuple(cells[text[0]][dropped:]) if text else ()
    counts = dict(zip(wanted, (int(n) for n in filled), strict=True))
    return Series(wanted, complete, labels, dropped, counts)


def fill_forward(values: Array) -> tuple[Array, int, NDArray[np.int64]]:
    """Give each missing value (NaN) the one before it in its column.

    Takes (N, C); returns the values without the leading rows in which a column has not begun, how
    many rows those were, and how many cells of each column were filled, (C,).
    """
    missing = np.isnan(values)
    steps = np.arange(len(values))[:, None]  # (N, 1)
    last = np.maximum.accumulate(np.where(missing, -1, steps), axis=0)  # (N, C)
    begun = (last >= 0).all(axis=1)
    start = int(np.argmax(begun)) if begun.any() else len(values)
    filled = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return filled[start:], start, missing[start:].sum(axis=0)


def split_by_time(
    length: int, *, validation: float, test: float, horizon: int, unit: str = "step"
) -> Split:
    """Cut a series into training, validation and test parts, in the order of time.

    Its `length` is in steps, or in another `unit` that a message is to name; `validation` and
    `test` are fractions of the length. Raises SettingsError where a part would
    be too short to hold a single forecast `horizon` steps ahead.
    """
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise SettingsError(
            "The validation and test parts must be fractions above 0 that leave room for training; "
            f"got {validation:g} and {test:g}."
        )
    end_of_validation = length - round(length * test)
    end_of_train = end_of_validation - round(length * validation)
    split = Split(end_of_train, end_of_validation, length)
    shortest = min(end_of_train, end_of_validation - end_of_train, length - end_of_validation)
    if shortest <= horizon + 1:
        raise SettingsError(
            f"A series of {counted(length, unit)} is too short for a horizon of {horizon}: one of "
            f"its parts would have {counted(shortest, unit)}; give more data or a shorter horizon."
        )
    return split


def changes(values: Array, distance: int) -> Array:
    """Return the change of each column over `distance` steps: (N, C) to (N - distance, C)."""
    return values[distance:] - values[:-distance]


def statistics(values: Array) -> Statistics:
    """Return each column's mean and standard deviation; a constant column's scale is 1."""
    deviation = values.std(axis=0)
    flat = deviation <= np.finfo(np.float32).eps * np.abs(values).max(axis=0)
    return Statistics(mean=values.mean(axis=0), scale=np.where(flat, 1.0, deviation))


def read_cells(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return a CSV file's header and its rows, cell by cell; row k stands in line k + 2.

    Raises DataError where it can't be read, or a line has more or fewer cells than the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} can't be read as a CSV file in UTF-8: its byte {error.start} is of another "
            "encoding."
        ) from error
    except csv.Error as error:
        raise DataError(f"{path} can't be read as a CSV file: {error}.") from error
    if len(lines) < 2:
        raise DataError(f"{path} must have a header line and at least one line of data.")
    header, rows = lines[0], lines[1:]
    if len(set(header)) != len(header):
        raise DataError(f"Two columns of {path} have one name; the header is {','.join(header)}.")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(
                f"Line {number} of {path} has {counted(len(row), 'cell')} where the header has "
                f"{len(header)}.{_semicolons(header)}"
            )
    return header, rows


def _semicolons(header: Sequence[str]) -> str:
    """Return a hint for a file that is separated by something else than commas."""
    if len(header) > 1 or ";" not in header[0]:
        return ""
    return " It seems to be separated by semicolons; commas are expected, and points in numbers."


def _is_text(cells: Sequence[str]) -> bool:
    """Tell whether the first cell that isn't missing is no number."""
    first = next((cell for cell in cells if cell.lower() not in MISSING), "0")
    return parse_number(first) is None


def _numbers(path: Path, name: str, cells: Sequence[str]) -> Array:
    values = np.full(len(cells), np.nan)
    for place, cell in enumerate(cells):
        if cell.lower() in MISSING:
            continue
        value = parse_number(cell)
        if value is None:
            raise DataError(
                f"Line {place + 2} of {path}: column {name!r} holds {cell!r} where a finite number "
                "was expected."
            )
        values[place] = value
    return values


def parse_number(cell: str) -> float | None:
    """Return a cell's finite number, or None where it holds none."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
