"""What a graph's weights and its work come to, counted from shapes, without running it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import onnx

#: Operators whose inputs 1 and 2 are the weights W and R, used once a step.
_RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN"})
_PRODUCTS: Final = frozenset({"MatMul", "Gemm", "MatMulIntegerToFloat"})
#: Axes before those of places: rows and channels.
_CHANNELS_LAST: Final = 2

Shapes = dict[str, tuple[int, ...]]


def parameters(graph: onnx.GraphProto) -> int:
    """Return how many numbers a network learnt: floats and 8-bit integers, those of bodies too."""
    return sum(math.prod(tensor.dims) for tensor in _constants(graph) if _is_learnt(tensor))


def multiply_adds(model: onnx.ModelProto) -> int:
    """Return the multiply-adds of one step of one row with weights that are constant.

    Those of recurrent layers, matrix products and convolutions. An axis that is open counts once,
    and so does the body of a loop over time.
    """
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = _shapes(graph)
    weights = {name: shapes[name] for name in _constant_names(graph) if name in shapes}
    return sum(_of_node(node, weights, shapes) for node in nodes(graph))


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the bodies of its loops."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.name == "body":
                yield from nodes(attribute.g)


def _of_node(node: onnx.NodeProto, weights: Shapes, shapes: Shapes) -> int:
    sizes = [math.prod(weights[name]) if name in weights else 0 for name in node.input]
    if node.op_type in _RECURRENT:
        return sum(sizes[1:3])  # W is (1, gates * H, F), R (1, gates * H, H)
    if node.op_type in _PRODUCTS:
        return sum(sizes[:2])
    if node.op_type in {"Conv", "ConvTranspose"}:
        # Each weight is used at each place: of what comes out, or of what a transposed one takes.
        places = node.output[0] if node.op_type == "Conv" else node.input[0]
        return sizes[1] * math.prod(shapes.get(places, ())[_CHANNELS_LAST:])
    return 0


def _shapes(graph: onnx.GraphProto) -> Shapes:
    """Return the shapes of values that have one, open axes as 1."""
    values = (*graph.value_info, *graph.input, *graph.output)
    found = {
        value.name: tuple(max(1, dim.dim_value) for dim in value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.HasField("shape")
    }
    return found | {tensor.name: tuple(tensor.dims) for tensor in _constants(graph)}


def _constant_names(graph: onnx.GraphProto) -> set[str]:
    """Return the values that are the same in every run: constants, and what is made of them."""
    known = {tensor.name for tensor in _constants(graph)}
    for node in nodes(graph):
        used = {name for name in node.input if name}
        made = bool(used) and not any(a.HasField("g") for a in node.attribute)
        if node.op_type == "Constant" or (made and used <= known):
            known.update(node.output)
    return known


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield initializers and the tensors of Constant nodes, under the names of their values."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                tensor = onnx.TensorProto()
                tensor.CopyFrom(attribute.t)
                tensor.name = node.output[0]
                yield tensor
            if attribute.name == "body":
                yield from _constants(attribute.g)


def _is_learnt(tensor: onnx.TensorProto) -> bool:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return dtype.kind == "f" or tensor.data_type == onnx.TensorProto.INT8
