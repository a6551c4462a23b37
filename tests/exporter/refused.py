"""Graphs that are written by hand to be refused, and a good one to say wrong things of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.exporter.zoo.build import build
from tests.exporter.zoo.recipe import Recipe


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "theirs.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list],
    outputs: dict[str, list],
    constants: dict[str, np.ndarray] | None = None,
    *,
    dtype: int = TensorProto.FLOAT,
    opset: int = 17,
) -> onnx.ModelProto:
    """Return a graph, unchecked: what is wrong with it is for others to find out."""

    def infos(values):
        return [helper.make_tensor_value_info(n, dtype, dims) for n, dims in values.items()]

    weights = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "theirs", infos(inputs), infos(outputs), weights)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def node(kind: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def good() -> onnx.ModelProto:
    return build(Recipe(layers=2)).model
