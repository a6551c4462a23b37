"""From lines of text to the inputs of one step each."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

import carousel_client as carousel
from carousel_client._arrays import cast
from carousel_client.cli._common import InputError, count

#: The most characters of somebody's input that a message repeats.
SHOWN = 60


class BadLine(InputError):
    """One line cannot be used; those after it may."""


class ByteSource(Protocol):
    """Something whose `read` returns what is there by now: a raw file, not a buffered one."""

    def read(self, size: int, /) -> bytes | None:
        """Return up to `size` bytes, b"" at the end."""


def lines(source: ByteSource) -> Iterator[tuple[int, bytes]]:
    """Yield each line that isn't blank, with its number from 1, as soon as it is complete.

    Raises InputError where the source can't be read.
    """
    number, rest = 0, b""
    while data := read(source, number + 1):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            number += 1
            if line.strip():
                yield number, line
    if rest.strip():
        yield number + 1, rest


def read(source: ByteSource, number: int) -> bytes:
    """Return what there is to read by now, b"" at the end.

    Raises InputError, which names the line of this number, where the source can't be read.
    """
    try:
        return source.read(65536) or b""
    except OSError as error:
        raise InputError(f"line {number} cannot be read: {error.strerror}") from None


def text(number: int, line: bytes) -> str:
    """Return a line as text. Raises BadLine."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
    except UnicodeDecodeError:
        raise BadLine(f"line {number} is not UTF-8 text") from None


class Reader(Protocol):
    """Reads lines of one format."""

    def read(self, number: int, line: str) -> dict[str, Any] | None:
        """Return one step's inputs by name, or None for a header. Raises InputError."""


class JsonReader:
    """Reads a line as `{"x": [...]}`, or as `[...]` or a number for a model with one input.

    Where a step holds exactly one number, of shape [] or all ones, it needs no brackets.
    """

    def __init__(self, model: carousel.ModelInfo) -> None:
        self._model = model

    def read(self, number: int, line: str) -> dict[str, Any]:
        """Return one step's inputs by name. Raises BadLine."""
        try:
            return self._read(number, line)
        except RecursionError:
            raise BadLine(f"line {number} is nested too deeply; an input is a flat list") from None

    def _read(self, number: int, line: str) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except ValueError as error:
            raise BadLine(f"line {number} is not JSON: {error}") from None
        specs = self._model.inputs
        if not isinstance(value, dict):
            value = {specs[0].name: value} if len(specs) == 1 else {}
        names = [spec.name for spec in specs]
        if sorted(value) != sorted(names):
            raise BadLine(f"line {number}: expected an object with {', '.join(names)}")
        return {spec.name: _json_array(number, spec, value[spec.name]) for spec in specs}


@dataclass
class CsvReader:
    """Reads a line of comma-separated values; picks columns by a header's names if there is one.

    A first line without any number is a header. Without one, or where neither `columns` nor the
    model name any, the columns that hold a number in the first row are taken, in order.
    """

    model: carousel.ModelInfo
    columns: Sequence[str] = ()
    fill_forward: bool = False
    _header: list[str] | None = None
    _picked: list[int] | None = None
    _before: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.model.inputs) != 1:
            names = ", ".join(spec.name for spec in self.model.inputs)
            raise InputError(f"{self.model.name!r} has several inputs ({names}): use JSON lines")

    def read(self, number: int, line: str) -> dict[str, Any] | None:
        """Return one step's inputs by name, or None for a header.

        Raises BadLine; InputError for a header that doesn't have what is wanted.
        """
        cells = _cells(number, line)
        if self._picked is None:
            if len(cells) == 1 and ";" in line:
                raise InputError(
                    f"line {number}: values separated by commas were expected; semicolons came"
                )
            if self._header is None and not any(_is_number(cell) for cell in cells):
                self._header = cells
                self._picked = self._by_name(number, cells)
                return None
            self._picked = self._by_value(number, cells)
        spec = self.model.inputs[0]
        values = [self._cell(number, cells, column) for column in self._picked]
        return {spec.name: _array(number, spec, np.reshape(values, spec.shape))}

    def _by_name(self, number: int, header: list[str]) -> list[int] | None:
        wanted = list(self.columns or self.model.inputs[0].columns)
        missing = [name for name in wanted if name not in header]
        if missing:
            raise InputError(
                f"line {number}: the header has no column {', '.join(map(repr, missing))}, but "
                f"{', '.join(map(repr, header))}; name others with --column"
            )
        if wanted:
            self._check(number, len(wanted), InputError)
        return [header.index(name) for name in wanted] or None

    def _by_value(self, number: int, cells: list[str]) -> list[int]:
        if self.columns and self._header is None:
            raise InputError(f"line {number}: --column needs a header that names the columns")
        numeric = [i for i, cell in enumerate(cells) if not cell or _is_number(cell)]
        self._check(number, len(numeric), BadLine)
        return numeric

    def _check(self, number: int, columns: int, kind: type[InputError]) -> None:
        size = self.model.inputs[0].size
        if columns != size:
            be = "is" if columns == 1 else "are"
            raise kind(
                f"line {number}: {self.model.name!r} takes {count(size, 'value')} a step, but "
                f"there {be} {count(columns, 'column')} of numbers; choose with --column"
            )

    def _cell(self, number: int, cells: list[str], column: int) -> float | int:
        named = self._header is not None and column < len(self._header)
        name = repr(self._header[column]) if self._header and named else str(column + 1)
        cell = cells[column] if column < len(cells) else ""
        if not cell and self.fill_forward:
            cell = self._before.get(column, "")
        if not cell:
            hint = "there is none before it" if self.fill_forward else "or use --fill forward"
            raise BadLine(f"line {number}: column {name} is empty; give it a value, {hint}")
        try:
            value = float(cell) if self.model.inputs[0].dtype.kind == "f" else int(cell)
        except ValueError:
            raise BadLine(f"line {number}: column {name} is no number: {_brief(cell)}") from None
        self._before[column] = cell
        return value


def _cells(number: int, line: str) -> list[str]:
    if "\r" in line:
        raise BadLine(
            f"line {number} is not CSV: it has a carriage return within; end each line with a "
            "line feed"
        )
    try:
        return [cell.strip() for cell in next(csv.reader([line]))]
    except csv.Error as error:
        raise BadLine(f"line {number} is not CSV: {error}") from None


def _json_array(number: int, spec: carousel.TensorInfo, value: Any) -> Any:
    if spec.size == 1 and isinstance(value, int | float):
        value = np.full(spec.shape, value)
    return _array(number, spec, value)


def _array(number: int, spec: carousel.TensorInfo, value: Any) -> Any:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "fiub" or array.shape != spec.shape:
        raise BadLine(
            f"line {number}: input {spec.name!r} takes numbers of shape {list(spec.shape)}, but "
            f"got {_brief(value)}"
        )
    if not np.isfinite(array).all():
        raise BadLine(f"line {number}: input {spec.name!r} holds a value that is not finite")
    try:
        return cast(spec, array)
    except carousel.InvalidInput as error:
        raise BadLine(f"line {number}: {error}") from None


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters)"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
