"""From somebody's ONNX file to a model file that Carousel serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from carousel_exporter.adoption import constants, describing, opsets
from carousel_exporter.adoption.finding import Finder
from carousel_exporter.adoption.graphs import count_nodes, opset_of, own_outputs
from carousel_exporter.adoption.options import Options
from carousel_exporter.adoption.ports import find, output_dtypes, read_inputs, with_sizes
from carousel_exporter.adoption.reading import Original, read
from carousel_exporter.adoption.report import AdoptionReport, Proposal
from carousel_exporter.adoption.serving import Served, Workshop
from carousel_exporter.adoption.trials import Trial
from carousel_exporter.adoption.wiring import final_wiring
from carousel_exporter.errors import ExporterError, SettingsError
from carousel_exporter.files import check_writable, replacing

Confirm = Callable[[Proposal], bool]
Say = Callable[[str], None]


def adopt(
    path: Path,
    out: Path,
    options: Options,
    confirm: Confirm | None = None,
    say: Say = lambda _: None,
) -> AdoptionReport:
    """Write the canonical form of an ONNX file to `out`, after its numbers were found equal.

    `confirm` is asked once, before anything is written, where states were proposed rather than
    stated; without it a proposal that was proved is taken. `say` is told what is being done. Raises
    ExporterError, with nothing written, where the file can't be served or can't be proved.
    """
    check_writable(out)
    if out.exists() and path.exists() and out.samefile(path):
        raise SettingsError(f"{out} is the file to be adopted: give --out another name.")
    say("reading")
    original = read(path)
    model, reference, finder, outputs = _prepare(original, options)
    say("finding states")
    found = finder.find()
    wiring = final_wiring(found, options.contexts)
    say("proving")
    with TemporaryDirectory() as folder:
        workshop = Workshop(
            original, reference, options, found, {**outputs, **found.dtypes}, finder.values
        )
        served = workshop.best(wiring, Path(folder) / "model.onnx")
        proposal = describing.propose(original, out, options, found, served.wiring, outputs)
        if proposal.proposed and confirm is not None and not confirm(proposal):
            raise ExporterError(
                f"{out} was not written, because the proposal was declined: state what is right "
                "with --state."
            )
        content = served.path.read_bytes()
    with replacing(out) as temporary:
        temporary.write_bytes(content)
    return _report(original, model, served, proposal)


def _prepare(
    original: Original, options: Options
) -> tuple[
    onnx.ModelProto,
    Trial,
    Finder,
    Mapping[str, np.dtype[np.generic]],
]:
    """Bind constants and fix sizes; return graph, original to compare with, finder, output types."""
    model = opsets.in_range(original.model)
    _drop_defaults(model)
    ports = read_inputs(model.graph)
    fixed = {
        name: constants.to_array(find(ports, name, "--constant"), value)
        for name, value in options.constants.items()
    }
    reference = Trial(original.model, fixed, f"the graph of {original.path}")
    constants.bind(model, fixed)
    own_outputs(model)
    ports = with_sizes([port for port in ports if port.name not in fixed], options.sizes)
    constants.check_no_scalars(model.graph, ports)
    outputs = output_dtypes(model.graph)
    return model, reference, Finder(model, ports, outputs, options), outputs


def _drop_defaults(model: onnx.ModelProto) -> None:
    """Let inputs that have a value of their own be constants, as old files list their weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _report(
    original: Original, model: onnx.ModelProto, served: Served, proposal: Proposal
) -> AdoptionReport:
    return AdoptionReport(
        proposal=proposal,
        manifest=served.manifest,
        nodes_before=count_nodes(original.model),
        nodes_after=count_nodes(served.model),
        ifs_before=count_nodes(original.model, "If"),
        ifs_after=count_nodes(served.model, "If"),
        opset_before=original.opset,
        opset_after=opset_of(model),
        max_batch=served.manifest.max_batch,
        batching=served.batching,
        checks=served.checks,
        notes=served.notes,
    )
