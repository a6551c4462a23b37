"""From somebody's ONNX file to a model file that Carousel serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from carousel_exporter.adoption import describing
from carousel_exporter.adoption.graphs import count_nodes, opset_of
from carousel_exporter.adoption.options import Options
from carousel_exporter.adoption.preparing import prepare
from carousel_exporter.adoption.reading import Original, read
from carousel_exporter.adoption.report import AdoptionReport, Proposal
from carousel_exporter.adoption.serving import Served, Workshop
from carousel_exporter.adoption.wiring import final_wiring
from carousel_exporter.errors import ExporterError
from carousel_exporter.files import check_other, check_writable, replacing

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
    check_other(out, path, "adopted")
    say("reading")
    original = read(path)
    case = prepare(original, options)
    say("finding states")
    found = case.finder.find()
    wiring = final_wiring(found, options.contexts)
    say("proving")
    with TemporaryDirectory() as folder:
        served = Workshop(case, found).best(wiring, Path(folder) / "model.onnx")
        proposal = describing.propose(case, found, served.wiring, served.manifest, out)
        if proposal.proposed and confirm is not None and not confirm(proposal):
            raise ExporterError(
                f"{out} was not written, because the proposal was declined: state what is right "
                "with --state."
            )
        content = served.path.read_bytes()
    with replacing(out) as temporary:
        temporary.write_bytes(content)
    return _report(original, served, proposal)


def _report(original: Original, served: Served, proposal: Proposal) -> AdoptionReport:
    return AdoptionReport(
        proposal=proposal,
        manifest=served.manifest,
        nodes_before=count_nodes(original.model),
        nodes_after=count_nodes(served.model),
        ifs_before=count_nodes(original.model, "If"),
        ifs_after=count_nodes(served.model, "If"),
        opset_before=original.opset,
        opset_after=opset_of(served.model),
        max_batch=served.manifest.max_batch,
        batching=served.batching,
        checks=served.checks,
        notes=served.notes,
    )
