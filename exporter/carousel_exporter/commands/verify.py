"""`carousel-export verify`: whether a model file is right, in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from carousel_exporter.commands.tables import print_report
from carousel_exporter.errors import SettingsError, VerificationError
from carousel_exporter.verification import verify as run


def verify(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    *,
    against: Annotated[
        Path | None,
        typer.Option(help="The checkpoint or state_dict that the file must equal in PyTorch."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="OLD=NEW", help="As in `convert`, for --against."),
    ] = None,
    nonlinearity: Annotated[
        str | None, typer.Option(metavar="tanh|relu", help="As in `convert`, for --against.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="File to take inputs from: CSV by the manifest's columns, .ts, a text."),
    ] = None,
    rows: Annotated[int, typer.Option(help="Sessions to run.")] = 5,
    steps: Annotated[int, typer.Option(help="Steps of each.")] = 48,
    seed: Annotated[int, typer.Option(help="Seed of inputs, chunks and batches.")] = 0,
) -> None:
    """Prove that a model file can be streamed: however it is cut and batched, answers are the same.

    Runs each session as a whole, one step at a time, in random chunks, all in one batch and in
    ragged batches, and in PyTorch where --against is given. Exit status 1 where one differs.

    For example:

        carousel-export verify model.onnx

        carousel-export verify models/co2/1/model.onnx --against co2.pt --data co2.csv
    """
    if (rename or nonlinearity) and against is None:
        raise SettingsError(
            "--map and --nonlinearity are for the file that --against names; give both."
        )
    network = None
    if against is not None:
        # PyTorch takes seconds to import.
        from carousel_exporter.source import read_source, use_one_thread  # noqa: PLC0415

        use_one_thread()
        network = read_source(against, rename or (), nonlinearity=nonlinearity).network
    report = run(model, against=network, data=data, rows=rows, steps=steps, seed=seed)
    print_report(Console(emoji=False), report)
    if not report.passed:
        raise VerificationError(f"{model} is wrong. {report.failure()}")
