"""`carousel stream`."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

import typer

import carousel_client as carousel
from carousel_client.cli import _skipping
from carousel_client.cli._answers import Style, answer_line, header
from carousel_client.cli._common import InputError, OutputError, ending_on_signals, guarded
from carousel_client.cli._source import Fill, Format, LineSource, Reading, Source
from carousel_client.cli._text import TextSource


@dataclass(frozen=True)
class Wanted:
    """How to read, and how to write: without a line of names, with all probabilities."""

    reading: Reading
    headless: bool
    probabilities: bool


@guarded
def stream(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="The model's name.")],
    *,
    form: Annotated[
        Format,
        typer.Option(
            "--format", help="What comes in; auto: text, if the model takes it, or lines."
        ),
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
    chunk: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="1 line; text: what is there",
            help="Send so many lines, or symbols of text, at a time.",
        ),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Write the probability of every class, not one only."),
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="Leave out lines, or characters, that cannot be read or that the model refuses.",
        ),
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
    """Stream standard input through a model: one line out for each step.

    In come CSV or JSON lines, a step each; or text, for a model that takes it, a step a symbol. Out
    comes CSV, or JSON where JSON came. Probabilities of classes are written as the label and the
    probability of the most probable one; where text came, behind the symbol that they follow on.
    Every answer is written as soon as it is there.

    Examples: `carousel stream co2 < data.csv`, `tail -f sensor.csv | carousel stream co2`,
    `carousel stream vowels --probabilities < words.csv`, `carousel stream shakespeare < play.txt`
    """
    if attach is not None and (name is not None or version):
        raise InputError("--attach takes up a session as it is: leave out --id and --version")
    _check_pipes()
    reading = Reading(form, fill, column or [], chunk, skip_bad)
    wanted = Wanted(reading, headless=no_header, probabilities=probabilities)
    with ending_on_signals(), context.obj.connect() as client:
        if attach is not None:
            _run(client.attach(model, attach), wanted)
            return
        session = client.open(model, name, version=version)
        try:
            if keep:
                typer.echo(f"session {session.id}", err=True)
            _run(session, wanted)
        finally:
            if not keep:
                _close(session)


def _check_pipes() -> None:
    """Raise InputError where a shell closed what is read from or written to (`<&-`, `>&-`)."""
    if sys.stdin is None:
        raise InputError("standard input is closed; pipe lines in, or use `< data.csv`")
    if sys.stdout is None:
        raise InputError("standard output is closed; answers need a place to go")


def _run(session: carousel.Session, wanted: Wanted) -> None:
    source = _source(session.info, wanted.reading)
    output = Output(session.info, source, wanted)
    # Only a raw file gives what is there so far; a buffered one would wait for more.
    standard_input = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    chunks = source.chunks(standard_input)

    def why(error: carousel.CarouselError) -> str:
        # There is one session here, and where nobody named it, its id says nothing.
        return source.where() + str(error).replace(f"session {session.id!r}: ", "")

    def skip(error: carousel.CarouselError) -> None:
        typer.echo(f"carousel: skipped: {why(error)}", err=True)
        source.over(1)

    if wanted.reading.skip_bad:
        answers = _skipping.answers(session, chunks, skip, most=wanted.reading.chunk)
    else:
        answers = session.stream(chunks)
    with closing(answers):
        while True:
            try:
                answer = next(answers)
            except StopIteration:
                return
            except carousel.CarouselError as error:
                if error.answers is not None:  # the chunk failed half-way
                    output.write(error.answers)
                raise InputError(why(error)) from None
            output.write(answer)


def _source(model: carousel.ModelInfo, reading: Reading) -> Source:
    """Return what reads standard input for a model: text for one that takes it."""
    vocabulary = model.vocabulary
    if reading.form is Format.TEXT or (reading.form is Format.AUTO and vocabulary is not None):
        if vocabulary is None:
            raise InputError(f"{model.name!r} has no vocabulary, so it takes no text")
        if reading.columns or reading.fill is not Fill.NONE:
            raise InputError(
                f"{model.name!r} takes text: leave out --column and --fill, or use --format csv"
            )
        return TextSource(model, vocabulary, reading.chunk, reading.skip_bad)
    return LineSource(model, reading)


@dataclass
class Output:
    """Answers written as lines; the first one, in CSV, after a line of names."""

    model: carousel.ModelInfo
    source: Source
    wanted: Wanted
    headed: bool = False

    def write(self, answer: Any) -> None:
        """Write the answers to the steps now awaited, each output `[T, *output]`, a line a step.

        Raises OutputError; BrokenPipeError where the reader has gone.
        """
        try:
            self._write(answer)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                f"{self.source.where()}the answer cannot be written: {error.strerror}"
            ) from None

    def _write(self, answer: Any) -> None:
        steps = _skipping.steps_in(answer)
        symbols = self.source.symbols(steps)
        style = Style(self.source.as_json, self.wanted.probabilities, symbols is not None)
        if not (self.headed or self.wanted.headless or style.as_json):
            _print(header(self.model, style))
        self.headed = True
        named = answer if isinstance(answer, dict) else {self.model.outputs[0].name: answer}
        for step in range(steps):
            values = {name: flat[step] for name, flat in named.items()}
            symbol = symbols[step] if symbols is not None else ""
            _print(answer_line(self.model, values, style, symbol))
            self.source.over(1)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _close(session: carousel.Session) -> None:
    """Close a session; what ended the stream before is the news, not a failure to close."""
    try:
        session.close()
    except carousel.CarouselError as error:
        typer.echo(f"carousel: session {session.id} may still be open: {error}", err=True)
