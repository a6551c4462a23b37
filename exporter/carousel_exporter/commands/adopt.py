"""`carousel-export adopt`: somebody's ONNX file in, a proved model file out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from carousel_exporter.errors import SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from carousel_exporter.adoption import AdoptionReport, Options, Proposal


def adopt(
    model: Annotated[Path, typer.Argument(help="An ONNX file with a recurrent network.")],
    *,
    out: Annotated[Path, typer.Option(help="Where the model file goes.")] = Path("model.onnx"),
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IN=OUT[:AXIS]",
            help="A state: the input that takes it, the output that gives its successor, and the "
            "axis of its batch; repeat for all of them. (default: found, shown and asked)",
        ),
    ] = None,
    constant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="An input that always has one value; repeat for more."
        ),
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N[:AXIS]",
            help="An input that begins with the last N values of its previous step: they are kept "
            "as a state, and clients send the new ones alone.",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:AXIS=N", help="The size of an open axis that counts no rows or steps."
        ),
    ] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.npy", help="What a state is at first, other than zeros; of one row."
        ),
    ] = None,
    samples: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.npy",
            help="Real inputs, a step a row, to compare with besides random ones.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="The model's name. (default: the file's name)")] = "",
    description: Annotated[str, typer.Option(help="What the model does, for people.")] = "",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Take what is proposed without being asked.")
    ] = False,
) -> None:
    """Make a model file that Carousel serves out of somebody's ONNX file, proved by numbers.

    States, axes and the form are found by names, by the graph and by running it, and shown with
    the command that states them; branches that never change are taken; batching is tried. The new
    file is compared with the original, driven by hand. Nothing is written where they differ.

    For example:

        carousel-export adopt dtln_model_1.onnx --out models/dtln1/1/model.onnx

        carousel-export adopt silero_vad.onnx --constant sr=16000 --context input=64 --yes

        carousel-export adopt theirs.onnx --state h0=hn:1 --state c0=cn:1 --out model.onnx
    """
    from carousel_exporter import adoption  # noqa: PLC0415 - ONNX Runtime takes a while to import
    from carousel_exporter.adoption.options import (  # noqa: PLC0415
        parse_constants,
        read_arrays,
        read_initial,
    )

    options = adoption.Options(
        states=tuple(adoption.StatePair.parse(text) for text in state or ()),
        constants=parse_constants(constant or ()),
        contexts=tuple(adoption.Context.parse(text) for text in context or ()),
        sizes=tuple(adoption.Size.parse(text) for text in size or ()),
        initial=read_initial(init or ()),
        samples=read_arrays("--samples", samples or ()),
        name=name,
        description=description,
    )
    _Command(Console(emoji=False), yes=yes).run(model, out, options)


#: Reasons that fit into a table; the strongest come first.
_REASONS = 3


class _Command:
    """Shows what is done, asks once, and shows what came of it."""

    def __init__(self, console: Console, *, yes: bool) -> None:
        self._console = console
        self._yes = yes

    def run(self, model: Path, out: Path, options: Options) -> None:
        from carousel_exporter.adoption import adopt as run  # noqa: PLC0415

        shown: list[Proposal] = []
        with self._console.status("…") as status:

            def confirm(proposal: Proposal) -> bool:
                status.stop()
                shown.append(proposal)
                self._show(proposal)
                agreed = self._agreed()
                status.start()
                return agreed

            report = run(model, out, options, confirm, lambda what: status.update(f"{what} …"))
        if not shown:
            self._show(report.proposal)
        self._show_result(report)
        self._print(f"model file: {out}")

    def _agreed(self) -> bool:
        if self._yes:
            return True
        if not sys.stdin.isatty():
            raise SettingsError(
                "This is a proposal, and there is no terminal to ask at: pass --yes to take it, or "
                "state it with the command above."
            )
        return typer.confirm("Is that right?", default=True)

    def _show(self, proposal: Proposal) -> None:
        if proposal.pairs:
            self._console.print(_pairs(proposal))
        for pair in proposal.pairs:
            because = "; ".join(pair.evidence[:_REASONS])
            self._print(f"{pair.input} → {pair.output}: {because}")
        self._console.print(_tensors(proposal))
        for note in proposal.notes:
            self._print(f"note: {note}")
        what = "proposed and proved" if proposal.proposed else "stated and proved"
        self._print(f"{what}; stated in full:\n  {proposal.command}")

    def _show_result(self, report: AdoptionReport) -> None:
        from carousel_exporter.commands.tables import print_report  # noqa: PLC0415

        print_report(self._console, report.verification)
        rows = "any number of rows a run" if report.batchable else "one row a run"
        self._print(f"batching: {rows}. {report.batching}.")
        nodes = f"nodes: {report.nodes_before} before, {report.nodes_after} after"
        branches = f"branches (If): {report.ifs_before} before, {report.ifs_after} after"
        opsets = f"opset {report.opset_before} before, {report.opset_after} after"
        self._print(f"{nodes}; {branches}; {opsets}")

    def _print(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True, highlight=False)


def _pairs(proposal: Proposal) -> Table:
    from carousel_exporter.commands.tables import table  # noqa: PLC0415

    result = table("States, as they are in the file", "", "next from", "type", "shape", "rows on")
    for pair in proposal.pairs:
        result.add_row(
            escape(pair.input),
            escape(pair.output),
            pair.dtype,
            escape(json.dumps(list(pair.shape))),
            "no axis" if pair.batch_axis is None else f"axis {pair.batch_axis}",
        )
    return result


def _tensors(proposal: Proposal) -> Table:
    from carousel_exporter.commands.tables import table  # noqa: PLC0415

    form = {
        "sequence": "a run takes any number of steps",
        "step": "a run takes one step",
    }[proposal.form]
    title = f"What clients send and get ({form})"
    result = table(title, "", "name", "type", "a step", "in the file")
    for kind, tensors in (("send", proposal.inputs), ("get", proposal.outputs)):
        for tensor in tensors:
            shape = ", ".join(map(str, tensor.shape))
            step = escape(json.dumps(list(tensor.step)))
            result.add_row(kind, escape(tensor.name), tensor.dtype, step, escape(f"[{shape}]"))
    return result
