"""`carousel-export convert`: a network of PyTorch in, a proved model file out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from carousel_exporter.commands.options import names, numbers
from carousel_exporter.errors import SettingsError
from carousel_exporter.files import check_other

if TYPE_CHECKING:
    from carousel_exporter.verification import Report


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A checkpoint of `train`; the state_dict of an nn.LSTM, nn.GRU or nn.RNN (and "
            "embedding and Linear heads) as .pt, .pth or .safetensors; a TorchScript file; a .pt2 "
            "of torch.export; or a module in Python, package.module:Class or file.py:function."
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
    example: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=[TYPE:]SIZES[:LEAST..GREATEST]",
            help="An argument of a program's forward method; repeat for each, parts of a tuple as "
            "NAME.0, NAME.1. Sizes are numbers, T (steps) or B (rows). Or the name of a function "
            "in the Python module that returns the arguments.",
        ),
    ] = None,
    outputs: Annotated[
        str, typer.Option(help="Names of the tensors that a program answers: a,b,…")
    ] = "",
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IN=OUT[:BATCH_AXIS]",
            help="A state of a program: the argument that takes it and the output that gives it "
            "back; repeat for all. (default: found and proved)",
        ),
    ] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.npy",
            help="What a state of a program is in a new session; repeat for more. (default: zeros)",
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A state_dict to load into a module in Python.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="The model's name. (default: the file's, or the class's)")
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

    Nothing is written where they are not. A program (TorchScript, torch.export, Python) takes and
    returns its state; reading one runs its code.

    For example:

        carousel-export convert co2.pt --out models/co2/1/model.onnx

        carousel-export convert theirs.pth --map encoder.rnn=lstm --map fc=head --out model.onnx

        carousel-export convert words.pth --map emb=embedding --map out=head --nonlinearity tanh

        carousel-export convert net.py:Net --weights net.pth --example x=T,B,16 --example h=2,B,64
        --outputs y,h_new --state h=h_new:1
    """
    from carousel_exporter import conversion, programs  # noqa: PLC0415 - torch takes seconds
    from carousel_exporter.adoption import Options, StatePair  # noqa: PLC0415 - as above
    from carousel_exporter.adoption.options import read_arrays  # noqa: PLC0415
    from carousel_exporter.source import Scaling, read_source, use_one_thread  # noqa: PLC0415

    scaling = Scaling(
        mean=numbers("--mean", mean),
        scale=numbers("--scale", scale),
        output_mean=numbers("--output-mean", output_mean),
        output_scale=numbers("--output-scale", output_scale),
    )
    use_one_thread()
    program_file, _, _ = source.rpartition(":")  # FILE.py:CLASS
    for read in (Path(source), Path(program_file), *([weights] if weights else [])):
        check_other(out, read, "converted")
    labels = conversion.Labels(
        name=name or _name(source),
        description=description,
        columns=names([columns]),
        answers=names([answers]),
        unit=unit,
        horizon=horizon,
    )
    options: dict[str, object] = {
        "--example": example,
        "--outputs": outputs,
        "--state": state,
        "--init": init,
        "--weights": weights,
    }
    if not programs.is_program(source):
        _refuse(source, "a file of tensors", "programs", options)
        given = scaling if scaling != Scaling() else None
        found = read_source(Path(source), rename or (), given, nonlinearity=nonlinearity)
        _show(conversion.convert(found, out, labels), out)
        return
    options = {"--nonlinearity": nonlinearity, "--mean or --scale": scaling != Scaling()}
    _refuse(source, "a program", "files of tensors", options)
    pairs = tuple(StatePair.parse(text) for text in state or ())
    program = programs.load(
        source,
        examples=example or (),
        outputs=names([outputs]),
        weights=weights,
        renames=rename or (),
    )
    stated = Options(states=pairs, initial=read_arrays("--init", init or ()), name=labels.name)
    report, adopted = programs.convert_program(program, out, labels, stated)
    _show(report, out)
    told = ", ".join(f"{pair.input} comes back as {pair.output}" for pair in adopted.proposal.pairs)
    lines = [f"states: {told}"]
    if not adopted.batchable:
        lines.append(f"batching: one row a run. {adopted.batching}.")
    for line in lines:
        Console(emoji=False).print(escape(line), soft_wrap=True, highlight=False)


def _name(source: str) -> str:
    """Name a model after its file or class."""
    return Path(source).stem if Path(source).exists() else source.rpartition(":")[2]


def _refuse(source: str, kind: str, others: str, options: Mapping[str, object]) -> None:
    given = next((option for option, value in options.items() if value), None)
    if given is not None:
        raise SettingsError(f"{source} is {kind}, and {given} is for {others}: leave it out.")


def _show(report: Report, out: Path) -> None:
    from carousel_exporter.commands.tables import print_report  # noqa: PLC0415

    console = Console(emoji=False)
    print_report(console, report)
    console.print(escape(f"model file: {out}"), soft_wrap=True, highlight=False)
