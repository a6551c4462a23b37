"""The `.ts` format of the UCR and UEA archives of time series, as aeon and sktime read it.

A header of lines that begin with `@` (and comments, with `#`), `@data`, and then one case a line:
its dimensions, parted by colons, each with its values parted by commas, and at the end its class.
https://www.aeon-toolkit.org/en/stable/examples/datasets/data_loading.html describes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carousel_exporter.data import Array, parse_number
from carousel_exporter.errors import DataError
from carousel_exporter.wording import counted


@dataclass(frozen=True)
class Case:
    """One sequence: its line, its values (T, F), NaN where one is missing, and its class."""

    line: int
    values: Array
    label: str


def read_ts(path: Path) -> tuple[list[Case], tuple[str, ...]]:
    """Read a file's cases and the names of its classes, as its header declares them.

    Raises DataError naming the line.
    """
    classes: tuple[str, ...] = ()
    cases: list[Case] = []
    in_data = False
    for number, line in _lines(path):
        if in_data:
            cases.append(_parse_case(path, number, line, classes))
            _check_alike(path, cases)
        elif line.lower() == "@data":
            in_data = True
        else:
            classes = _read_header(path, number, line) or classes
            continue
        if not classes:
            raise DataError(f"{path} declares no classes: a line @classLabel true … was expected.")
    if not cases:
        raise DataError(f"{path} has no cases: a line @data with lines after it was expected.")
    return cases, classes


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, and their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as a .ts file in UTF-8: {error}.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()


def _read_header(path: Path, number: int, line: str) -> tuple[str, ...]:
    """Return the classes where a line of the header declares them."""
    if not line.startswith("@"):
        raise DataError(f"Line {number} of {path}: a line that begins with @ was expected.")
    key, *words = line.split()
    if key.lower() == "@timestamps" and words[:1] == ["true"]:
        raise DataError(f"Line {number} of {path}: series with time stamps can't be read.")
    if key.lower() == "@classlabel" and words[:1] == ["true"]:
        return tuple(dict.fromkeys(words[1:]))
    return ()


def _parse_case(path: Path, number: int, line: str, classes: tuple[str, ...]) -> Case:
    *dimensions, label = line.split(":")
    label = label.strip()
    if not dimensions:
        raise DataError(f"Line {number} of {path}: values, a colon and a class were expected.")
    if label not in classes:
        raise DataError(
            f"Line {number} of {path}: the class {label!r} is not one that the header declares, "
            f"{', '.join(classes)}."
        )
    columns = [
        [_parse_value(path, number, place, cell) for cell in dimension.split(",")]
        for place, dimension in enumerate(dimensions, start=1)
    ]
    lengths = [len(column) for column in columns]
    for place, length in enumerate(lengths, start=1):
        if length != lengths[0]:
            raise DataError(
                f"Line {number} of {path}: dimension {place} has {counted(length, 'value')}, and "
                f"dimension 1 has {lengths[0]}."
            )
    return Case(number, np.array(columns).T, label)


def _parse_value(path: Path, number: int, dimension: int, cell: str) -> float:
    if cell.strip() in {"?", "NaN"}:
        return float("nan")
    value = parse_number(cell)
    if value is None:
        raise DataError(
            f"Line {number} of {path}: dimension {dimension} holds {cell.strip()!r} where a finite "
            "number was expected."
        )
    return value


def _check_alike(path: Path, cases: list[Case]) -> None:
    first, last = cases[0].values.shape[1], cases[-1].values.shape[1]
    if first != last:
        raise DataError(
            f"Line {cases[-1].line} of {path} has {counted(last, 'dimension')}, and the first case "
            f"has {first}."
        )
