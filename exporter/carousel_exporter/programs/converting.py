"""From a program to a model file: exported, adopted into our form, proved against the program."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from google.protobuf import json_format

from carousel.v1.manifest_pb2 import ModelManifest
from carousel.wire import MANIFEST_KEY
from carousel_exporter import manifest as manifests
from carousel_exporter.adoption import AdoptionReport, Options, adopt, extremes
from carousel_exporter.conversion import Labels, label
from carousel_exporter.errors import ExporterError, VerificationError
from carousel_exporter.files import check_writable, replacing
from carousel_exporter.programs.exporting import ExportError, exports, mend
from carousel_exporter.programs.program import Program
from carousel_exporter.programs.reference import ProgramReference
from carousel_exporter.runner import Runner
from carousel_exporter.samples import random_rows
from carousel_exporter.verification import Report, verify

#: Sessions, and steps of each, that are compared with very loud and quiet inputs.
_ROWS: Final = 2
_STEPS: Final = 2 * len(extremes.SCALES)


def convert_program(
    program: Program, path: Path, labels: Labels, options: Options
) -> tuple[Report, AdoptionReport]:
    """Write a model file, after its numbers were found equal to the program's in random chunks.

    `options` state the states, or leave them to be found. Where there are several ways to export
    the program, the next is tried if one fails or gives other numbers. Raises ExporterError, with
    nothing written, where none is right or the program can't be streamed.
    """
    check_writable(path)
    failures: list[ExporterError] = []
    with tempfile.TemporaryDirectory(prefix="carousel-export-") as folder:
        original = Path(folder) / f"{Path(labels.name).name}.onnx"
        for export in exports(program):
            try:
                export(program, original)
                return _finish(program, original, path, labels, options)
            except (ExportError, VerificationError) as error:
                failures.append(error)
    raise failures[0]


def _finish(
    program: Program, original: Path, path: Path, labels: Labels, options: Options
) -> tuple[Report, AdoptionReport]:
    """Make a model file of an exported program, and compare the two."""
    mend(original, options.states)
    with replacing(path) as temporary:
        adopted = adopt(original, temporary, options)
        manifest = _complete(temporary, program, labels)
        reference = ProgramReference(program, adopted.proposal, manifest)
        report = verify(temporary, against=reference)
        if not report.passed:
            raise VerificationError(
                f"{path} was not written, because its numbers differ from the program's: "
                f"{report.failure()}"
            )
        _compare_loud(Runner(temporary, manifest), reference, path)
    return report, adopted


def _compare_loud(runner: Runner, reference: ProgramReference, path: Path) -> None:
    """Compare with the program where steps are very loud and very quiet, loosely.

    Tracing keeps the way through a program that its example took: a branch that usual inputs don't
    take is lost without a word, and shows here if it is about size.
    """
    rng = np.random.default_rng(0)
    for session in random_rows(runner.manifest, {}, rows=_ROWS, steps=_STEPS, rng=rng):
        chunk = extremes.spread(session)
        expected, last = reference.advance(chunk, None)
        (found,), (state,) = runner.advance([chunk], [runner.new_state()])
        apart = extremes.far_apart(expected | last, found | state)
        if apart.excess > 1:
            raise VerificationError(
                f"{path} was not written, because {apart.tensor!r} differs by {apart.value:.1e} "
                "from the program's where inputs are very loud or quiet: if it branches on values, "
                "of which PyTorch's exporter keeps one way alone, write that with torch.where."
            )


def _complete(path: Path, program: Program, labels: Labels) -> ModelManifest:
    """Put into a file's manifest what adoption can't know: where it is from, what people say."""
    model = manifests.load_model(path)
    manifest = manifests.read_manifest(model, path)
    for key in ("source", "source_sha256"):
        manifest.provenance.pop(key, None)  # they are of a file that nobody keeps
    manifest.provenance.update(program.origin)
    bounds = {each.name: each.bounds for each in program.examples if each.bounds}
    for spec in manifest.inputs:
        if spec.name in bounds:
            spec.minimum, spec.maximum = bounds[spec.name]
    label(manifest, labels)
    text = json_format.MessageToJson(manifest, preserving_proto_field_name=True, sort_keys=True)
    for entry in model.metadata_props:
        if entry.key == MANIFEST_KEY:
            entry.value = text
    onnx.save(model, path)
    return manifest
