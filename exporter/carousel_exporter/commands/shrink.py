"""`carousel-export shrink`: a model file in, a smaller and perhaps faster one out, proved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from carousel_exporter.errors import SettingsError

if TYPE_CHECKING:
    from carousel_exporter.precision import ShrinkReport


def shrink(
    model: Annotated[Path, typer.Argument(help="A model file of `convert` or `adopt`.")],
    *,
    out: Annotated[Path, typer.Option(help="Where the new model file goes.")],
    float16: Annotated[
        bool, typer.Option("--float16", help="Keep weights and states in half precision.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Multiply in 8-bit integers; states stay float32.")
    ] = False,
    keep_states: Annotated[
        bool,
        typer.Option(
            "--keep-states", help="With --float16: weights alone; long chunks stay as fast."
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="CSV file to compare on, by the manifest's columns. (default: random input)"
        ),
    ] = None,
    samples: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.npy",
            help="Real inputs to compare on, a step a row, for inputs that have no columns; repeat "
            "for all inputs.",
        ),
    ] = None,
    accept_error: Annotated[
        bool,
        typer.Option(
            "--accept-error",
            help="Write the file also where its error is above 1 % (float16) or 5 % (int8) of the "
            "answers' spread.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON rather than tables.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random inputs and cuts.")] = 0,
) -> None:
    """Make a model file smaller: float16 weights and states, or products in 8-bit integers.

    The new file is cut and batched in every way, its rows are proved not to change one another,
    and its answers are compared with float32 over long streams. Nothing is written where one of
    these fails. A table tells size, speed and error.

    For example:

        carousel-export shrink models/co2/1/model.onnx --int8 --data co2.csv
        --out models/co2-small/1/model.onnx

        carousel-export shrink model.onnx --float16 --keep-states --out half.onnx
    """
    if float16 == int8:
        raise SettingsError("Say what the file is to be: --float16 or --int8, one of them.")
    from carousel_exporter import precision  # noqa: PLC0415 - ONNX Runtime takes a while
    from carousel_exporter.adoption.options import read_arrays  # noqa: PLC0415 - as above

    if data is not None and samples:
        raise SettingsError("--data and --samples both say what to compare on: give one of them.")
    wanted = precision.Precision.FLOAT16 if float16 else precision.Precision.INT8
    request = precision.Request(
        precision=wanted,
        keep_states=keep_states,
        data=data,
        samples=read_arrays("--samples", samples or ()),
        accept_error=accept_error,
        seed=seed,
    )
    with Console(stderr=True).status("") as status:
        report = precision.shrink(
            model, out, request, lambda doing: status.update(f"{doing} {escape(str(model))}")
        )
    if as_json:
        typer.echo(json.dumps(report.as_json() | {"out": str(out)}))
        return
    console = Console(emoji=False)
    _show(console, report)
    console.print(escape(f"model file: {out}"), soft_wrap=True, highlight=False)


def _show(console: Console, report: ShrinkReport) -> None:
    from carousel_exporter.commands.tables import print_report  # noqa: PLC0415
    from carousel_exporter.commands.tables_precision import print_shrunk  # noqa: PLC0415

    print_report(console, report.checks)
    print_shrunk(console, report)
