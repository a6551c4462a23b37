"""What is read from a pipe, as chunks of steps; and lines of numbers, which are the usual."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import typer

import carousel_client as carousel
from carousel_client.cli._common import InputError
from carousel_client.cli._rows import (
    BadLine,
    ByteSource,
    CsvReader,
    JsonReader,
    Reader,
    lines,
    text,
)


class Format(StrEnum):
    """How standard input is written."""

    AUTO = "auto"
    CSV = "csv"
    JSON = "json"
    TEXT = "text"


class Fill(StrEnum):
    """What to do about empty cells."""

    NONE = "none"
    FORWARD = "forward"


@dataclass(frozen=True)
class Reading:
    """How to read; `chunk` is the most steps that are sent at a time, None for the usual."""

    form: Format
    fill: Fill
    columns: list[str]
    chunk: int | None
    skip_bad: bool


class Source(Protocol):
    """What is read from a pipe, and where in it the steps are that await their answers."""

    #: Whether the answers are to be written as JSON.
    as_json: bool

    def chunks(self, source: ByteSource) -> Iterator[Any]:
        """Yield chunks, in the form that a session's `stream` takes. Raises InputError."""

    def where(self) -> str:
        """Return the beginning of a message: where the first step is that awaits its answer."""

    def symbols(self, steps: int) -> Sequence[str] | None:
        """Return the symbols of the first so many steps that await their answers, if it is text."""

    def over(self, steps: int) -> None:
        """Note that the first so many steps were answered, or left out."""


@dataclass
class LineSource:
    """Steps read from lines, one each."""

    model: carousel.ModelInfo
    reading: Reading
    as_json: bool = False
    _awaited: deque[int] = field(default_factory=deque)  # each step's line

    def chunks(self, source: ByteSource) -> Iterator[dict[str, Any]]:
        """Yield chunks, each input `[T, *step]` with T at most the chunk's size.

        Raises InputError, once all that stands before the line at fault was yielded.
        """
        steps: list[dict[str, Any]] = []
        failure: InputError | None = None
        try:
            for number, step in self._steps(source):
                self._awaited.append(number)
                steps.append(step)
                if len(steps) == (self.reading.chunk or 1):
                    yield _stacked(steps)
                    steps = []
        except InputError as error:
            failure = error
        if steps:
            yield _stacked(steps)
        if failure is not None:
            raise failure

    def where(self) -> str:
        """Return the beginning of a message: the first line that awaits its answer."""
        return f"line {self._awaited[0]}: " if self._awaited else ""

    def symbols(self, steps: int) -> None:
        """Return None: these are numbers."""

    def over(self, steps: int) -> None:
        """Note that the first so many lines were answered, or left out."""
        for _ in range(steps):
            self._awaited.popleft()

    def _steps(self, source: ByteSource) -> Iterator[tuple[int, dict[str, Any]]]:
        reader: Reader | None = None
        for number, line in lines(source):
            try:
                words = text(number, line)
                reader = reader or self._reader(words)
                step = reader.read(number, words)
            except BadLine as error:
                if not self.reading.skip_bad:
                    raise
                typer.echo(f"carousel: skipped: {error}", err=True)
                continue
            if step is not None:
                yield number, step

    def _reader(self, line: str) -> Reader:
        form = self.reading.form
        self.as_json = form is Format.JSON or (
            form is Format.AUTO and line.lstrip().startswith(("{", "["))
        )
        if self.as_json:
            return JsonReader(self.model)
        return CsvReader(self.model, self.reading.columns, self.reading.fill is Fill.FORWARD)


def _stacked(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}
