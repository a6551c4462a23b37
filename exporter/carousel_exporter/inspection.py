"""What a model file holds, and what a step of it costs, read without running it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carousel.v1 import manifest_pb2
from carousel.wire import NUMPY_DTYPES
from carousel_exporter import costs
from carousel_exporter.manifest import check_whole, load_model, read_manifest


@dataclass(frozen=True)
class Inspection:
    """A model file in figures.

    `parameters` counts floating-point constants. `multiply_adds` counts those of one step of one
    session with constant weights (recurrent layers, MatMul, Gemm, convolutions), which are all but
    a few of its operations. `operators` counts the graph's nodes by type. The body of a loop over
    time counts as a step of it.
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
    check_whole(model, path)
    return Inspection(
        manifest=manifest,
        file_bytes=path.stat().st_size,
        ir_version=model.ir_version,
        opset=next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0),
        parameters=costs.parameters(model.graph),
        multiply_adds=costs.multiply_adds(model),
        operators=dict(Counter(node.op_type for node in costs.nodes(model.graph)).most_common()),
    )


def state_bytes(spec: manifest_pb2.StateSpec) -> int:
    """Return the bytes that a state takes in one session."""
    return math.prod(spec.shape) * np.dtype(NUMPY_DTYPES[spec.dtype]).itemsize
