"""`carousel stream`."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import typer

import carousel_client as carousel
from carousel_client.cli._common import InputError, OutputError, ending_on_signals, guarded
from carousel_client.cli._rows import (
    BadLine,
    ByteSource,
    CsvReader,
    JsonReader,
    Reader,
    answer_line,
    csv_line,
    header,
    lines,
    text,
)


class Format(StrEnum):
    """How lines are written."""

    AUTO = "auto"
    CSV = "csv"
    JSON = "json"


class Fill(StrEnum):
    """What to do about empty cells."""

    NONE = "none"
    FORWARD = "forward"


@dataclass(frozen=True)
class Reading:
    """How to read lines."""

    form: Format
    fill: Fill
    columns: list[str]
    chunk: int
    skip_bad: bool


@dataclass
class Source:
    """Steps read from a pipe, in chunks, and the line at which each chunk on its way began."""

    model: carousel.ModelInfo
    reading: Reading
    as_json: bool = False
    begins: deque[int] = field(default_factory=deque)

    def chunks(self, source: ByteSource) -> Iterator[dict[str, Any]]:
        """Yield chunks, each input `[T, *step]` with T at most the chunk's size."""
        steps: list[dict[str, Any]] = []
        for number, step in self._steps(source):
            if not steps:
                self.begins.append(number)
            steps.append(step)
            if len(steps) == self.reading.chunk:
                yield _stacked(steps)
                steps = []
        if steps:
            yield _stacked(steps)

    def where(self) -> str:
        """Return the beginning of a message: the line that the chunk now awaited began at."""
        return f"line {self.begins[0]}: " if self.begins else ""

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


@guarded
def stream(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="The model's name.")],
    *,
    form: Annotated[
        Format, typer.Option("--format", help="How lines are written, in and out.")
    ] = Format.AUTO,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Take this column of the CSV; repeat for more, in order."
        ),
    ] = None,
    fill: Annotated[
        Fill, typer.Option(help="Empty cells: refuse, or repeat the last.")
    ] = Fill.NONE,
    chunk: Annotated[int, typer.Option(min=1, help="Send so many lines at a time.")] = 1,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out lines that cannot be read.")
    ] = False,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="Print no line with the outputs' names.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Open the session under this id.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the session open, and print its id to stderr.")
    ] = False,
    attach: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on with this session; it stays open.")
    ] = None,
    version: Annotated[str, typer.Option(help="The model's version.")] = "",
) -> None:
    """Stream standard input through a model: CSV or JSON lines in, one line out for each.

    Every answer is written as soon as it is there.

    Examples: `carousel stream co2 < data.csv`, `tail -f sensor.csv | carousel stream co2`
    """
    if attach is not None and (name is not None or version):
        raise InputError("--attach takes up a session as it is: leave out --id and --version")
    _check_pipes()
    reading = Reading(form, fill, column or [], chunk, skip_bad)
    with ending_on_signals(), context.obj.connect() as client:
        if attach is not None:
            _run(client.attach(model, attach), reading, with_header=not no_header)
            return
        session = client.open(model, name, version=version)
        try:
            if keep:
                typer.echo(f"session {session.id}", err=True)
            _run(session, reading, with_header=not no_header)
        finally:
            if not keep:
                _close(session)


def _check_pipes() -> None:
    """Raise InputError where a shell closed what is read from or written to (`<&-`, `>&-`)."""
    if sys.stdin is None:
        raise InputError("standard input is closed; pipe lines in, or use `< data.csv`")
    if sys.stdout is None:
        raise InputError("standard output is closed; answers need a place to go")


def _run(session: carousel.Session, reading: Reading, *, with_header: bool) -> None:
    source = Source(session.info, reading)
    output = Output(session.info, headed=not with_header)
    # Only a raw file gives what is there so far; a buffered one would wait for more.
    standard_input = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    with closing(session.stream(source.chunks(standard_input))) as answers:
        while True:
            try:
                answer = next(answers)
            except StopIteration:
                return
            except carousel.CarouselError as error:
                if error.answers is not None:  # the chunk failed half-way
                    output.write(error.answers, source)
                # There is one session here, and where nobody named it, its id says nothing.
                why = str(error).replace(f"session {session.id!r}: ", "")
                raise InputError(f"{source.where()}{why}") from None
            output.write(answer, source)
            source.begins.popleft()


@dataclass
class Output:
    """Answers written as lines; the first one, in CSV, after a line of names."""

    model: carousel.ModelInfo
    headed: bool

    def write(self, answer: Any, source: Source) -> None:
        """Write a chunk's answers, each output `[T, *output]`, a line a step.

        Raises OutputError; BrokenPipeError where the reader has gone.
        """
        try:
            self._write(answer, as_json=source.as_json)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                f"{source.where()}the answer cannot be written: {error.strerror}"
            ) from None

    def _write(self, answer: Any, *, as_json: bool) -> None:
        if not self.headed and not as_json:
            _print(csv_line(header(self.model)))
        self.headed = True
        named = answer if isinstance(answer, dict) else {self.model.outputs[0].name: answer}
        for step in range(len(next(iter(named.values())))):
            values = {name: flat[step] for name, flat in named.items()}
            _print(answer_line(self.model, values, as_json=as_json))


def _stacked(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _close(session: carousel.Session) -> None:
    """Close a session; what ended the stream before is the news, not a failure to close."""
    try:
        session.close()
    except carousel.CarouselError as error:
        typer.echo(f"carousel: session {session.id} may still be open: {error}", err=True)
