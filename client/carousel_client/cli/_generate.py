"""`carousel generate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

import carousel_client as carousel
from carousel_client.cli._common import InputError, OutputError, ending_on_signals, guarded


@guarded
def generate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="The language model's name.")],
    *,
    prompt: Annotated[str, typer.Option(help="The text that is to be continued.")],
    length: Annotated[int, typer.Option(min=1, help="How many symbols to write.")] = 200,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            show_default="1",
            help="Below 1 the probable gains; at 0 the most probable symbol is taken each time.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draw the same text again, with the same number.")
    ] = None,
    beams: Annotated[
        int | None,
        typer.Option(min=1, help="Draw nothing: search for the most probable texts, so many."),
    ] = None,
    version: Annotated[str, typer.Option(help="The model's version.")] = "",
) -> None:
    """Let a language model continue a text: by lot, or with --beams by beam search.

    What is drawn is written behind the prompt, as it comes. What a search has found is written as
    one line a text, the most probable first: the natural logarithm of its probability, a tab, and
    the text as a JSON string.

    Examples: `carousel generate shakespeare --prompt "The storm " --temperature 0.7`,
    `carousel generate shakespeare --prompt "The storm " --length 12 --beams 8`
    """
    if beams is not None and (temperature is not None or seed is not None):
        raise InputError("--beams draws nothing by lot: leave out --temperature and --seed")
    with (
        ending_on_signals(),
        context.obj.connect() as client,
        client.open(model, version=version) as session,
    ):
        if beams is not None:
            _print_each(_found(session, prompt, length, beams))
        else:
            heat = 1.0 if temperature is None else temperature
            pieces = carousel.text.write(session, prompt, length, temperature=heat, rng=seed)
            _print_each(_written(prompt, pieces))


def _written(prompt: str, pieces: Iterator[str]) -> Iterator[str]:
    """Yield what is to be printed of a text that is drawn, the prompt once the model takes it."""
    for number, piece in enumerate(pieces):
        yield piece if number else prompt + piece
    yield "\n"


def _found(session: carousel.Session, prompt: str, length: int, beams: int) -> Iterator[str]:
    for found in carousel.text.beam(session, prompt, length, beams=beams):
        text = json.dumps(found.text, ensure_ascii=False)
        yield f"{found.log_probability:.4f}\t{text}\n"


def _print_each(parts: Iterator[str]) -> None:
    """Print each part as soon as it is there. Raises OutputError, BrokenPipeError."""
    for part in parts:
        try:
            sys.stdout.write(part)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"the text cannot be written: {error.strerror}") from None
