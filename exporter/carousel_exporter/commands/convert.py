"""`carousel-export convert`: a checkpoint or a state_dict in, a proved model file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from carousel_exporter.commands.options import names, numbers


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint of `train`, or the state_dict of an nn.LSTM, nn.GRU or nn.RNN (and "
            "embedding and Linear heads) as .pt, .pth or .safetensors."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Where the model file goes.")] = Path("model.onnx"),
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="OLD=NEW",
            help="Rename a key, or the part of keys before a dot; repeat for more. The recurrent "
            "layers must be called lstm, gru or rnn (found by themselves where there are no "
            "others), a Linear layer on top head, several of them head.NAME, an embedding in "
            "front embedding.",
        ),
    ] = None,
    nonlinearity: Annotated[
        str | None,
        typer.Option(
            metavar="tanh|relu", help="What an nn.RNN squashes with, which no state_dict says."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="The model's name. (default: the checkpoint's file name)")
    ] = "",
    description: Annotated[str, typer.Option(help="What the model does, for people.")] = "",
    columns: Annotated[str, typer.Option(help="What the inputs are: a,b,…")] = "",
    answers: Annotated[str, typer.Option(help="What the answers are: a,b,…")] = "",
    unit: Annotated[str, typer.Option(help="Unit of the answers.")] = "",
    horizon: Annotated[
        int | None, typer.Option(min=0, help="Steps that answers look ahead.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="The network of a state_dict sees (x - mean) / scale; a number a column."
        ),
    ] = None,
    scale: Annotated[str | None, typer.Option(help="See --mean.")] = None,
    output_mean: Annotated[
        str | None,
        typer.Option(help="The answer is the network's times output scale plus output mean."),
    ] = None,
    output_scale: Annotated[str | None, typer.Option(help="See --output-mean.")] = None,
) -> None:
    """Make a model file that Carousel serves, after proving its numbers equal to PyTorch's.

    Nothing is written where they are not.

    For example:

        carousel-export convert co2.pt --out models/co2/1/model.onnx

        carousel-export convert theirs.pth --map encoder.rnn=lstm --map fc=head --out model.onnx

        carousel-export convert words.pth --map emb=embedding --map out=head --nonlinearity tanh
    """
    from carousel_exporter import conversion  # noqa: PLC0415 - torch takes seconds to import
    from carousel_exporter.commands.tables import print_report  # noqa: PLC0415
    from carousel_exporter.source import Scaling, read_source, use_one_thread  # noqa: PLC0415

    scaling = Scaling(
        mean=numbers("--mean", mean),
        scale=numbers("--scale", scale),
        output_mean=numbers("--output-mean", output_mean),
        output_scale=numbers("--output-scale", output_scale),
    )
    use_one_thread()
    source = read_source(
        checkpoint,
        rename or (),
        scaling if scaling != Scaling() else None,
        nonlinearity=nonlinearity,
    )
    labels = conversion.Labels(
        name=name or checkpoint.stem,
        description=description,
        columns=names([columns]),
        answers=names([answers]),
        unit=unit,
        horizon=horizon,
    )
    console = Console()
    print_report(console, conversion.convert(source, out, labels))
    console.print(escape(f"model file: {out}"), soft_wrap=True, highlight=False)
