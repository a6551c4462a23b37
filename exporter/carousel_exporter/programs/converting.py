"""From a program to a model file: exported, adopted into our form, proved against the program."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from google.protobuf import json_format

from carousel.v1.manifest_pb2 import ModelManifest
from carousel.wire import MANIFEST_KEY
from carousel_exporter import manifest as manifests
from carousel_exporter.adoption import AdoptionReport, Options, adopt
from carousel_exporter.conversion import Labels, label
from carousel_exporter.errors import ExporterError, VerificationError
from carousel_exporter.files import check_writable, replacing
from carousel_exporter.programs.exporting import ExportError, exports, mend
from carousel_exporter.programs.program import Program
from carousel_exporter.programs.reference import ProgramReference
from carousel_exporter.verification import Report, verify


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
    return report, adopted


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
