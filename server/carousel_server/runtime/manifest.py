"""Read a model file: its graph, its manifest, and whether the two agree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf import json_format, message

from carousel import wire
from carousel.meanings import meaning_flaw
from carousel.v1 import manifest_pb2
from carousel_server.errors import ModelFileError
from carousel_server.spec import ModelSpec, StateSpec, TensorSpec

# One protobuf message, and so one ONNX file without external data, can't be larger.
_MAX_FILE_BYTES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file, read and checked."""

    path: Path
    sha256: str
    graph: onnx.ModelProto
    manifest: manifest_pb2.ModelManifest
    spec: ModelSpec


def read_model(path: Path) -> ModelFile:
    """Read a model file and check its manifest against its graph.

    Raises:
        ModelFileError: the file can't be served; the message says why.

    """

    def refuse(reason: str) -> ModelFileError:
        return ModelFileError(path, reason)

    content = _read_bytes(path, refuse)
    try:
        graph = onnx.ModelProto.FromString(content)
    except message.DecodeError as error:
        raise refuse("this is no ONNX file, or not a whole one") from error
    if not graph.graph.node:
        raise refuse("this is no ONNX file, or its graph has no nodes")
    if any(_is_external(tensor) for tensor in graph.graph.initializer):
        raise refuse(
            "its weights lie in other files; a model is one file: save it without external data"
        )
    manifest = _read_manifest(graph, refuse)
    spec = _spec(manifest, refuse)
    _check_graph(graph.graph, spec, refuse)
    return ModelFile(path, hashlib.sha256(content).hexdigest(), graph, manifest, spec)


Refuse = Callable[[str], ModelFileError]


def _read_bytes(path: Path, refuse: Refuse) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise refuse(f"it has {size} bytes; an ONNX file can hold {_MAX_FILE_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise refuse(f"it can't be read: {error.strerror}") from error


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _read_manifest(graph: onnx.ModelProto, refuse: Refuse) -> manifest_pb2.ModelManifest:
    found = [entry.value for entry in graph.metadata_props if entry.key == wire.MANIFEST_KEY]
    if not found:
        raise refuse(
            f"its metadata has no {wire.MANIFEST_KEY!r}, so its states are not known; make it with "
            "carousel-export"
        )
    try:
        # Fields that this version does not know change nothing, or the format would be another.
        manifest = json_format.Parse(
            found[0], manifest_pb2.ModelManifest(), ignore_unknown_fields=True
        )
    except json_format.ParseError as error:
        raise refuse(f"its manifest can't be read: {error}") from error
    if manifest.format != wire.MANIFEST_FORMAT:
        raise refuse(
            f"its manifest has format {manifest.format}, this server knows {wire.MANIFEST_FORMAT}"
        )
    return manifest


def _spec(manifest: manifest_pb2.ModelManifest, refuse: Refuse) -> ModelSpec:
    for what, declared in (
        ("inputs", manifest.inputs),
        ("outputs", manifest.outputs),
        ("states", manifest.states),
    ):
        if not declared:
            raise refuse(f"its manifest declares no {what}")
    _refuse_repeated([*_names(manifest.inputs), *_names(manifest.states)], refuse)
    _refuse_repeated(_names(manifest.outputs), refuse)
    _refuse_repeated([state.output for state in manifest.states], refuse)
    if manifest.form == manifest_pb2.MODEL_FORM_UNSPECIFIED:
        raise refuse("its manifest does not say whether the graph loops over time (form)")
    time_axis = manifest.form == manifest_pb2.MODEL_FORM_SEQUENCE
    if manifest.sequence_lens and not time_axis:
        raise refuse("its manifest names sequence_lens, but its form is one step a run")
    return ModelSpec(
        inputs=tuple(_tensor(spec, refuse) for spec in manifest.inputs),
        outputs=tuple(_tensor(spec, refuse) for spec in manifest.outputs),
        states=tuple(_state(spec, refuse) for spec in manifest.states),
        time_axis=time_axis,
        sequence_lens=manifest.sequence_lens,
        max_batch=manifest.max_batch,
    )


def _names(declared: Iterable[Any]) -> list[str]:
    return [spec.name for spec in declared]


def _refuse_repeated(names: list[str], refuse: Refuse) -> None:
    for name in names:
        if names.count(name) > 1:
            raise refuse(f"its manifest declares {name!r} twice")


def _dtype(spec: Any, refuse: Refuse) -> np.dtype[np.generic]:
    if spec.dtype not in wire.NUMPY_DTYPES:
        raise refuse(f"its manifest gives {spec.name!r} no dtype that this server knows")
    return np.dtype(wire.NUMPY_DTYPES[spec.dtype])


def _shape(spec: Any, refuse: Refuse) -> tuple[int, ...]:
    shape = tuple(spec.shape)
    if any(size < 1 for size in shape):
        raise refuse(
            f"its manifest gives {spec.name!r} the shape {list(shape)}; all dimensions "
            "but time and batch are fixed and positive"
        )
    return shape


def _tensor(spec: manifest_pb2.TensorSpec, refuse: Refuse) -> TensorSpec:
    if flaw := meaning_flaw(spec):
        raise refuse(f"its manifest gives {spec.name!r} {flaw}")
    return TensorSpec(
        name=spec.name,
        dtype=_dtype(spec, refuse),
        shape=_shape(spec, refuse),
        minimum=spec.minimum if spec.HasField("minimum") else None,
        maximum=spec.maximum if spec.HasField("maximum") else None,
    )


def _state(spec: manifest_pb2.StateSpec, refuse: Refuse) -> StateSpec:
    dtype, shape = _dtype(spec, refuse), _shape(spec, refuse)
    initial = np.zeros(shape, dtype)
    if spec.initial:
        if len(spec.initial) != initial.nbytes:
            raise refuse(
                f"its manifest gives state {spec.name!r} {len(spec.initial)} bytes to "
                f"begin with; {initial.nbytes} were expected"
            )
        initial = np.frombuffer(spec.initial, dtype).reshape(shape)
        if dtype.kind == "f" and not np.isfinite(initial).all():
            raise refuse(
                f"its manifest lets state {spec.name!r} begin with a value that is not finite"
            )
    return StateSpec(spec.name, spec.output, dtype, shape, initial)


def _check_graph(graph: onnx.GraphProto, spec: ModelSpec, refuse: Refuse) -> None:
    """Refuse a manifest that speaks of another graph."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in weights}
    outputs = {value.name: value for value in graph.output}
    batch_axis = 1 if spec.time_axis else 0
    expected_inputs = _expect(spec.inputs, batch_axis)
    expected_inputs |= {state.name: (state.dtype, 0, state.shape) for state in spec.states}
    if spec.sequence_lens:
        expected_inputs[spec.sequence_lens] = (np.dtype("<i4"), 0, ())
    expected_outputs = _expect(spec.outputs, batch_axis)
    expected_outputs |= {state.output: (state.dtype, 0, state.shape) for state in spec.states}
    _check_values("input", inputs, expected_inputs, refuse)
    _check_values("output", outputs, expected_outputs, refuse)
    if extra := sorted(set(inputs) - set(expected_inputs)):
        raise refuse(f"its graph has inputs that its manifest does not declare: {extra}")


Expected = dict[str, tuple[np.dtype[np.generic], int, tuple[int, ...]]]


def _expect(specs: Iterable[TensorSpec], batch_axis: int) -> Expected:
    return {spec.name: (spec.dtype, batch_axis, spec.shape) for spec in specs}


def _check_values(
    what: str, there: Mapping[str, onnx.ValueInfoProto], expected: Expected, refuse: Refuse
) -> None:
    for name, (dtype, batch_axis, shape) in expected.items():
        if name not in there:
            raise refuse(
                f"its manifest declares the {what} {name!r}; the graph has {sorted(there)}"
            )
        declared = there[name].type.tensor_type
        if not declared.elem_type:
            raise refuse(f"{what} {name!r} is {dtype} in its manifest and no tensor in its graph")
        found = onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type)
        if np.dtype(found).newbyteorder("<") != dtype:
            raise refuse(f"{what} {name!r} is {dtype} in its manifest and {found} in its graph")
        if not declared.HasField("shape"):
            continue
        fixed = [dim.dim_value for dim in declared.shape.dim]
        if len(fixed) != batch_axis + 1 + len(shape) or any(
            have not in (0, want) for have, want in zip(fixed[batch_axis + 1 :], shape, strict=True)
        ):
            raise refuse(
                f"{what} {name!r} has {list(shape)} a step in its manifest and "
                f"{fixed} (0: any) in its graph, batch on axis {batch_axis}"
            )
