"""What a model file holds, and what a step of it costs, read without running it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from carousel.v1 import manifest_pb2
from carousel.wire import NUMPY_DTYPES
from carousel_exporter.manifest import load_model, read_manifest

#: Operators whose inputs 1 and 2 are the weights W and R.
RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN"})
PRODUCTS: Final = frozenset({"MatMul", "Gemm"})


@dataclass(frozen=True)
class Inspection:
    """A model file in figures.

    `parameters` counts floating-point constants. `multiply_adds` counts those of one step of one
    session in matrix products with constant weights (recurrent layers, MatMul, Gemm), which are
    all but a few of its operations. `operators` counts the graph's nodes by type. The body of a
    loop over time counts as a step of it.
    """

    manifest: manifest_pb2.ModelManifest
    file_bytes: int
    ir_version: int
    opset: int
    parameters: int
    multiply_adds: int
    operators: dict[str, int]

    @property
    def flops(self) -> int:
        """Floating-point operations a step: a multiply-add is two."""
        return 2 * self.multiply_adds

    @property
    def state_bytes(self) -> int:
        """Bytes of state that one session holds."""
        return sum(state_bytes(spec) for spec in self.manifest.states)


def inspect(path: Path) -> Inspection:
    """Read a model file. Raises ModelFileError where it is none, or has no manifest."""
    model = load_model(path)
    manifest = read_manifest(model, path)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return Inspection(
        manifest=manifest,
        file_bytes=path.stat().st_size,
        ir_version=model.ir_version,
        opset=next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0),
        parameters=sum(
            math.prod(tensor.dims) for tensor in model.graph.initializer if _is_float(tensor)
        ),
        multiply_adds=sum(_multiply_adds(node, sizes) for node in _nodes(model.graph)),
        operators=dict(Counter(node.op_type for node in _nodes(model.graph)).most_common()),
    )


def state_bytes(spec: manifest_pb2.StateSpec) -> int:
    """Return the bytes that a state takes in one session."""
    return math.prod(spec.shape) * np.dtype(NUMPY_DTYPES[spec.dtype]).itemsize


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.name == "body":
                yield from _nodes(attribute.g)


def _multiply_adds(node: onnx.NodeProto, sizes: dict[str, tuple[int, ...]]) -> int:
    """Return the multiply-adds of one node for one step of one session."""
    if node.op_type in RECURRENT:
        # Each weight is used once a step: W is (1, gates * H, F), R (1, gates * H, H).
        return sum(math.prod(sizes.get(name, (0,))) for name in node.input[1:3])
    if node.op_type in PRODUCTS:
        return sum(math.prod(sizes[name]) for name in node.input[:2] if name in sizes)
    return 0


def _is_float(tensor: onnx.TensorProto) -> bool:
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).kind == "f"
