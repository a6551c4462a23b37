"""What a model file says of itself: writing it into the file, reading it out again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import onnx
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from carousel.meanings import meaning_flaw
from carousel.v1.manifest_pb2 import (
    MODEL_FORM_SEQUENCE,
    MODEL_FORM_STEP,
    ModelManifest,
    StateSpec,
    TensorSpec,
)
from carousel.wire import MANIFEST_FORMAT, MANIFEST_KEY, NUMPY_DTYPES
from carousel_exporter import filekinds
from carousel_exporter.errors import ModelFileError
from carousel_exporter.wording import first_line

#: Key of the metadata under which we note, for `verify`, what usual values look like: for each
#: tensor "mean" and "scale" and, where values are best drawn as a walk, those of the "changes".
STATISTICS_KEY: Final = "carousel.exporter.statistics"

TensorStatistics = dict[str, list[float]]


def attach(
    model: onnx.ModelProto,
    manifest: ModelManifest,
    statistics: Mapping[str, TensorStatistics],
) -> None:
    """Put a manifest and statistics into a model's metadata, in place of what is there."""
    # Sorted, because a map has no order of its own, and one network must make one file.
    text = json_format.MessageToJson(manifest, preserving_proto_field_name=True, sort_keys=True)
    properties = {MANIFEST_KEY: text}
    if statistics:
        properties[STATISTICS_KEY] = json.dumps(statistics)
    onnx.helper.set_model_props(model, properties)


def load_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, whatever its ending. Raises ModelFileError where it is none."""
    try:
        model = onnx.load(path, format="protobuf")
    except FileNotFoundError:
        raise ModelFileError(f"There is no file {path}.") from None
    except OSError as error:
        raise ModelFileError(f"{path} can't be read: {error.strerror or error}.") from error
    except DecodeError as error:
        raise ModelFileError(filekinds.not_onnx(path)) from error
    except onnx.checker.ValidationError as error:
        raise ModelFileError(
            f"{path} keeps its weights in a file beside it, which can't be read: "
            f"{first_line(error)}."
        ) from error
    if not model.graph.node:
        raise ModelFileError(filekinds.not_onnx(path))
    return model


def check_whole(model: onnx.ModelProto, path: Path) -> None:
    """Raise ModelFileError where a graph's parts don't fit together, as in a damaged file."""
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path} is damaged: {first_line(error)}.") from error


def read_manifest(model: onnx.ModelProto, path: Path) -> ModelManifest:
    """Return a model's manifest. Raises ModelFileError where there is none that we can read."""
    text = _properties(model).get(MANIFEST_KEY)
    if text is None:
        raise ModelFileError(
            f"{path} has no manifest (metadata {MANIFEST_KEY!r}), so it is not a Carousel model: "
            "make one with `carousel-export convert`."
        )
    try:
        manifest = json_format.Parse(text, ModelManifest())
    except UnicodeDecodeError as error:  # protobuf hands such bytes on
        raise ModelFileError(f"The manifest of {path} is damaged: it is no UTF-8.") from error
    except json_format.ParseError as error:
        raise ModelFileError(
            f"The manifest of {path} can't be read: {first_line(error)}."
        ) from error
    if not 1 <= manifest.format <= MANIFEST_FORMAT:
        raise ModelFileError(
            f"The manifest of {path} has format {manifest.format}, and this version reads formats "
            f"1 to {MANIFEST_FORMAT}."
        )
    _check_complete(manifest, path)
    return manifest


def read_statistics(model: onnx.ModelProto) -> dict[str, TensorStatistics]:
    """Return what `attach` noted of usual values, by tensor; empty where nothing was.

    Raises ModelFileError where it can't be read.
    """
    text = _properties(model).get(STATISTICS_KEY, "{}")
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise ModelFileError(f"The metadata {STATISTICS_KEY!r} can't be read: {error}.") from error


def _check_complete(manifest: ModelManifest, path: Path) -> None:
    """Raise ModelFileError where the manifest leaves out what every model has."""
    if manifest.form not in {MODEL_FORM_SEQUENCE, MODEL_FORM_STEP}:
        raise ModelFileError(f"The manifest of {path} doesn't state how the graph treats time.")
    named: dict[str, Sequence[TensorSpec | StateSpec]] = {
        "input": manifest.inputs,
        "output": manifest.outputs,
        "state": manifest.states,
    }
    for kind, specs in named.items():
        if not specs:
            raise ModelFileError(f"The manifest of {path} names no {kind}, and must name one.")
        for spec in specs:
            if spec.dtype not in NUMPY_DTYPES:
                raise ModelFileError(
                    f"The manifest of {path} gives {kind} {spec.name!r} no type that is known."
                )
            if isinstance(spec, TensorSpec) and (flaw := meaning_flaw(spec)):
                raise ModelFileError(f"The manifest of {path} gives {kind} {spec.name!r} {flaw}.")


def _properties(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}
