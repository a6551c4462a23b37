"""Labelled sequences: what a classifier is trained on, read from CSV files or the `.ts` format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carousel_exporter.data import (
    MISSING,
    Array,
    Statistics,
    fill_forward,
    parse_number,
    read_cells,
    statistics,
)
from carousel_exporter.errors import DataError
from carousel_exporter.tsfile import read_ts
from carousel_exporter.wording import counted

Classes = NDArray[np.int64]
"""A class for each step of a sequence, (T,), as a place in `Sequences.classes`."""


@dataclass(frozen=True)
class Sequences:
    """Sequences of different lengths, and the class of each of their steps.

    `values` are (T, F) each, in plain units, one column for each of `columns`; `labels` (T,) each.
    `classes` are the names of the classes. `names` says where each sequence is, for messages.
    `filled` counts the cells of each column that took the value before them.
    """

    columns: tuple[str, ...]
    classes: tuple[str, ...]
    values: tuple[Array, ...]
    labels: tuple[Classes, ...]
    names: tuple[str, ...]
    filled: dict[str, int]

    @property
    def is_labelled_by_step(self) -> bool:
        """Whether some sequence's class changes on the way."""
        return any((labels != labels[0]).any() for labels in self.labels)

    def pick(self, places: Sequence[int]) -> Sequences:
        """Return some of the sequences, in the given order."""
        return replace(
            self,
            values=tuple(self.values[place] for place in places),
            labels=tuple(self.labels[place] for place in places),
            names=tuple(self.names[place] for place in places),
        )

    def statistics(self) -> Statistics:
        """Return the mean and scale of each column over all steps, (F,) each."""
        return statistics(np.concatenate(self.values))


def read_sequences(
    path: Path,
    *,
    sequence: str = "",
    label: str = "",
    features: Sequence[str] = (),
    like: Sequences | None = None,
) -> Sequences:
    """Read labelled sequences from a `.ts` file, or from a CSV file with one row a step.

    `sequence` and `label` name the columns of a CSV file that hold the sequence a row belongs to
    and its label; rows of a sequence are in the order of time. `features` are the columns that go
    in, by default all others. `like` gives columns and classes, those of the training data.
    Missing values take the one before them in their sequence. Raises DataError naming line and
    column.
    """
    if path.suffix == ".ts":
        return _from_ts(path, like)
    if like is not None:
        features = like.columns
    return _from_csv(path, sequence, label, tuple(features), like)


def _from_ts(path: Path, like: Sequences | None) -> Sequences:
    cases, declared = read_ts(path)
    columns = tuple(f"dimension_{place + 1}" for place in range(cases[0].values.shape[1]))
    classes = like.classes if like is not None else declared
    if like is not None and columns != like.columns:
        raise DataError(
            f"{path} has {counted(len(columns), 'dimension')}, and the training data have "
            f"{counted(len(like.columns), 'column')}."
        )
    values, filled = [], dict.fromkeys(columns, 0)
    for case in cases:
        where = f"Line {case.line} of {path}"
        values.append(_filled(case.values, columns, filled, where))
    labels = [
        np.full(len(case.values), _place(case.label, classes, f"Line {case.line} of {path}"))
        for case in cases
    ]
    names = tuple(f"line {case.line}" for case in cases)
    return Sequences(columns, classes, tuple(values), tuple(labels), names, filled)


def _from_csv(
    path: Path, sequence: str, label: str, features: tuple[str, ...], like: Sequences | None
) -> Sequences:
    header, rows = read_cells(path)
    for option, name in (("--sequence", sequence), ("--label", label)):
        if not name:
            raise DataError(f"{option} must name a column of {path}: {', '.join(header)}.")
    if sequence == label:
        raise DataError(f"--sequence and --label are both {label!r}: each is a column of its own.")
    features = features or tuple(name for name in header if name not in {sequence, label})
    for name in (sequence, label, *features):
        if name not in header:
            raise DataError(f"{path} has no column {name!r}; its columns are {', '.join(header)}.")
    if not features:
        raise DataError(f"{path} has no column beside {sequence!r} and {label!r}.")
    groups = _groups(path, [row[header.index(sequence)] for row in rows], sequence)
    raw = np.array(
        [
            [_number(path, row, header, place, name) for name in features]
            for place, row in enumerate(rows)
        ]
    )  # (N, F)
    found = [row[header.index(label)] for row in rows]
    for place, cell in enumerate(found):
        if cell.lower() in MISSING:
            raise DataError(f"Line {place + 2} of {path}: the label, {label!r}, is missing.")
    classes = like.classes if like is not None else tuple(sorted(set(found), key=_natural))
    filled = dict.fromkeys(features, 0)
    values = tuple(
        _filled(raw[places], features, filled, f"Line {places[0] + 2} of {path}")
        for places in groups.values()
    )
    labels = tuple(
        np.array([_place(found[p], classes, f"Line {p + 2} of {path}") for p in places], np.int64)
        for places in groups.values()
    )
    names = tuple(f"sequence {name!r}" for name in groups)
    return Sequences(features, classes, values, labels, names, filled)


def _number(path: Path, row: list[str], header: list[str], place: int, name: str) -> float:
    cell = row[header.index(name)]
    if cell.lower() in MISSING:
        return float("nan")
    value = parse_number(cell)
    if value is None:
        raise DataError(
            f"Line {place + 2} of {path}: column {name!r} holds {cell!r} where a finite number "
            "was expected; --features names the columns that go in."
        )
    return value


def _groups(path: Path, cells: Sequence[str], column: str) -> dict[str, list[int]]:
    """Return the places of each sequence's rows, by its name."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(cells):
        if name.lower() in MISSING:
            raise DataError(f"Line {place + 2} of {path}: the sequence, {column!r}, is missing.")
        groups.setdefault(name, []).append(place)
    return groups


def _filled(values: Array, columns: Sequence[str], counts: dict[str, int], where: str) -> Array:
    """Fill the gaps of one sequence (T, F), and count them by column."""
    first = np.isnan(values[0])
    if first.any():
        name = columns[int(np.argmax(first))]
        raise DataError(
            f"{where}: a sequence begins without a value of {name!r}, and there is none before it "
            "to take."
        )
    whole, _, filled = fill_forward(values)
    for name, count in zip(columns, filled, strict=True):
        counts[name] += int(count)
    return whole


def _place(label: str, classes: Sequence[str], where: str) -> int:
    if label not in classes:
        raise DataError(
            f"{where}: the label {label!r} is not one of the training data, which are "
            f"{', '.join(classes)}."
        )
    return classes.index(label)


def _natural(label: str) -> tuple[float, str]:
    """Sort numbers by value, and before words."""
    value = parse_number(label)
    return (float("inf") if value is None else value, label)
