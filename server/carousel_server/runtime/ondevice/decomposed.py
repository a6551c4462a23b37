"""Recurrent operators taken apart: one matrix product for all gates, and what follows by element.

A run of one step through cuDNN's LSTM prepares for sequences that it does not have. Its equations,
written out, are one product of [x, h] with [W; R] and a dozen operations on elements; a captured
graph makes launching those cheap. Which of the two is faster at which batch is measured
(`tuning.py`); both are the same function, up to the rounding of the dtype.

The equations are those of ONNX's operators LSTM, GRU and RNN for one step, with gates in ONNX's
order: i, o, f, c for an LSTM, z, r, h for a GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from carousel_server.runtime.ondevice.stepform import RECURRENT
from carousel_server.runtime.poolgraph import PREFIX

#: In what numbers the products are made, by the name that `--math` has for it. The rest, and the
#: states, stay float32: an error of a product is forgotten, one in a cell state is carried along.
PRODUCTS = {
    "float32": TensorProto.FLOAT,
    "tf32": TensorProto.FLOAT,  # the same graph: the provider makes its products shorter
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}

#: Operators' attributes, and the values with which they are taken apart.
_PLAIN: Mapping[str, tuple[object, ...]] = {
    "direction": (b"forward",),
    "layout": (0,),
    "input_forget": (0,),
    "linear_before_reset": (0, 1),
}
_ACTIVATIONS = {"LSTM": [b"Sigmoid", b"Tanh", b"Tanh"], "GRU": [b"Sigmoid", b"Tanh"]}
_RNN_ACTIVATIONS = {b"Tanh": "Tanh", b"Relu": "Relu"}

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """A graph, how many of its recurrent operators were taken apart, and why others were not."""

    graph: onnx.ModelProto
    taken: int
    left: tuple[str, ...]


def decompose(model: onnx.ModelProto, *, math: str) -> Decomposition:
    """Return a model of one step a run with its recurrent operators taken apart.

    Operators that have something unusual about them (peepholes, clipping, other activations,
    weights that are not constant float32) are left as they are.

    Args:
        model: `stepform.step_form`'s graph: recurrent operators see one step, x `[1, B, F]`.
        math: a key of `PRODUCTS`.

    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph, opset = made.graph, _opset(made)
    constants = _constants(graph)
    nodes: list[onnx.NodeProto] = []
    added: list[onnx.TensorProto] = []
    left: list[str] = []
    for number, node in enumerate(graph.node):
        if node.op_type not in RECURRENT or node.domain:
            nodes.append(node)
            continue
        layer = _Layer.of(node, constants)
        if isinstance(layer, str):
            left.append(f"{node.name or node.op_type}: {layer}")
            nodes.append(node)
            continue
        writer = _Writer(f"{PREFIX}cell{number}", opset, PRODUCTS[math])
        _CELLS[node.op_type](writer, layer)
        nodes += writer.nodes
        added += writer.constants
    taken = len([node for node in graph.node if node.op_type in RECURRENT]) - len(left)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(added)
    _drop_unused(graph)
    return Decomposition(made, taken, tuple(left))


@dataclass(frozen=True, slots=True)
class _Layer:
    """A recurrent operator's weights, G gates each, and the names that it reads and writes."""

    x: str  # (1, B, F)
    h: str  # (1, B, H)
    c: str  # (1, B, H); empty without one
    outputs: tuple[str, ...]  # Y (1, 1, B, H), Y_h (1, B, H), Y_c (1, B, H); empty: not wanted
    W: Weights  # (G * H, F)
    R: Weights  # (G * H, H)
    Wb: Weights  # (G * H,)
    Rb: Weights  # (G * H,)
    attributes: Mapping[str, Any]

    @property
    def hidden(self) -> int:
        return int(self.R.shape[1])

    @classmethod
    def of(cls, node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> _Layer | str:
        """Return the layer, or what is unusual about it."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        inputs = [*node.input, *[""] * (8 - len(node.input))]
        x, w, r, b, lengths, h, c, peepholes = inputs
        if unusual := _unusual(node.op_type, attributes):
            return unusual
        if lengths or peepholes or not h or (node.op_type == "LSTM" and not c):
            return "it has lengths or peepholes, or no initial state"
        if any(name not in constants for name in (w, r, b) if name):
            return "its weights are not constant"
        if any(constants[n].data_type != TensorProto.FLOAT for n in (w, r, b) if n):
            return "its weights are not float32"
        W, R = (numpy_helper.to_array(constants[name])[0] for name in (w, r))
        biases = numpy_helper.to_array(constants[b])[0] if b else np.zeros(2 * len(R), np.float32)
        Wb, Rb = np.split(biases, 2)
        outputs = (*node.output, *[""] * (3 - len(node.output)))
        return cls(x, h, c, outputs, W, R, Wb, Rb, attributes)


def _unusual(kind: str, attributes: Mapping[str, Any]) -> str:
    """Return which attribute keeps an operator from being taken apart; "" if none does."""
    for name, allowed in _PLAIN.items():
        if attributes.get(name, allowed[0]) not in allowed:
            return f"its {name} is {attributes[name]!r}"
    if attributes.get("clip"):
        return "it clips"
    if attributes.get("activation_alpha") or attributes.get("activation_beta"):
        return "its activations have parameters"
    activations = attributes.get("activations")
    if not activations:
        return ""
    plain = (
        activations[0] in _RNN_ACTIVATIONS
        if kind == "RNN"
        else list(activations) == _ACTIVATIONS[kind]
    )
    return "" if plain else f"its activations are {activations}"


@dataclass
class _Writer:
    """Nodes that take the place of one operator; names begin with `prefix`."""

    prefix: str
    opset: int
    product: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def op(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        name = output or f"{self.prefix}/{kind}_{len(self.nodes)}"
        node_name = f"{self.prefix}/node_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=node_name, **attributes))
        return name

    def constant(self, value: NDArray[np.generic]) -> str:
        name = f"{self.prefix}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def shaped(self, value: str, shape: list[int], output: str = "") -> str:
        """Add another view of the same values; -1 is the batch."""
        return self.op("Reshape", [value, self.constant(np.array(shape, np.int64))], output)

    def product_with(self, value: str, matrix: Weights, bias: Weights) -> str:
        """Add value (B, K) times matrix (K, N), plus bias (N,), as float32 (B, N)."""
        added = self.constant(bias)
        if self.product == TensorProto.FLOAT:
            return self.op("Gemm", [value, self.constant(matrix), added])
        short = helper.tensor_dtype_to_np_dtype(self.product)
        weights = self.constant(matrix.astype(short))
        narrow = self.op("Cast", [value], to=self.product)
        wide = self.op("Cast", [self.op("MatMul", [narrow, weights])], to=TensorProto.FLOAT)
        return self.op("Add", [wide, added])

    def split(self, value: str, sizes: list[int]) -> list[str]:
        """Add the parts, of the sizes, of value (B, sum(sizes))."""
        names = [f"{self.prefix}/Split_{len(self.nodes)}_{part}" for part in range(len(sizes))]
        name = f"{self.prefix}/node_{len(self.nodes)}"
        if self.opset < 13:  # until then the sizes were an attribute
            node = helper.make_node("Split", [value], names, name=name, axis=1, split=sizes)
        else:
            sizes_name = self.constant(np.array(sizes, np.int64))
            node = helper.make_node("Split", [value, sizes_name], names, name=name, axis=1)
        self.nodes.append(node)
        return names

    def answer(self, layer: _Layer, h: str, c: str = "") -> None:
        """Give the new states (B, H) the names and shapes that the operator's outputs have."""
        y, y_h, y_c = layer.outputs
        if y:
            self.shaped(h, [1, 1, -1, layer.hidden], y)
        if y_h:
            self.shaped(h, [1, -1, layer.hidden], y_h)
        if y_c:
            self.shaped(c, [1, -1, layer.hidden], y_c)


def _lstm(w: _Writer, layer: _Layer) -> None:
    H = layer.hidden
    x, h, c = _flat(w, layer)
    K = np.ascontiguousarray(np.concatenate([layer.W, layer.R], axis=1).T)  # (F + H, 4H)
    together = w.op("Concat", [x, h], axis=1)  # (B, F + H)
    gates = w.product_with(together, K, layer.Wb + layer.Rb)  # (B, 4H)
    iof, g = w.split(gates, [3 * H, H])
    i, o, f = w.split(w.op("Sigmoid", [iof]), [H, H, H])
    entered = w.op("Mul", [i, w.op("Tanh", [g])])
    new_c = w.op("Add", [w.op("Mul", [f, c]), entered])
    new_h = w.op("Mul", [o, w.op("Tanh", [new_c])])
    w.answer(layer, new_h, new_c)


def _gru(w: _Writer, layer: _Layer) -> None:
    x, h, _ = _flat(w, layer)
    reset_after = layer.attributes.get("linear_before_reset", 0) == 1
    z, candidate = (_reset_after if reset_after else _reset_before)(w, layer, x, h)
    # (1 - z) * candidate + z * h
    kept = w.op("Mul", [z, w.op("Sub", [h, candidate])])
    w.answer(layer, w.op("Add", [candidate, kept]))


def _reset_after(w: _Writer, layer: _Layer, x: str, h: str) -> tuple[str, str]:
    """Add the gates where r is applied to the finished product with h: one product for all.

    The candidate's shares of x and of h are columns of their own, with zeros for the other one.
    """
    H, F = layer.hidden, layer.W.shape[1]
    K = np.zeros((F + H, 4 * H), np.float32)
    K[:F, : 3 * H] = layer.W.T
    K[F:, : 2 * H] = layer.R[: 2 * H].T
    K[F:, 3 * H :] = layer.R[2 * H :].T
    both = layer.Wb[: 2 * H] + layer.Rb[: 2 * H]
    bias = np.concatenate([both, layer.Wb[2 * H :], layer.Rb[2 * H :]])
    gates = w.product_with(w.op("Concat", [x, h], axis=1), K, bias)
    zr, of_x, of_h = w.split(gates, [2 * H, H, H])
    z, r = w.split(w.op("Sigmoid", [zr]), [H, H])
    return z, w.op("Tanh", [w.op("Add", [of_x, w.op("Mul", [r, of_h])])])


def _reset_before(w: _Writer, layer: _Layer, x: str, h: str) -> tuple[str, str]:
    """Add the gates where r is applied to h itself: the candidate's product waits for r."""
    H = layer.hidden
    K = np.concatenate([layer.W, layer.R], axis=1).T  # (F + H, 3H)
    bias = layer.Wb + layer.Rb
    first, last = np.ascontiguousarray(K[:, : 2 * H]), np.ascontiguousarray(K[:, 2 * H :])
    gates = w.product_with(w.op("Concat", [x, h], axis=1), first, bias[: 2 * H])
    z, r = w.split(w.op("Sigmoid", [gates]), [H, H])
    reset = w.op("Concat", [x, w.op("Mul", [r, h])], axis=1)
    return z, w.op("Tanh", [w.product_with(reset, last, bias[2 * H :])])


def _rnn(w: _Writer, layer: _Layer) -> None:
    x, h, _ = _flat(w, layer)
    K = np.ascontiguousarray(np.concatenate([layer.W, layer.R], axis=1).T)  # (F + H, H)
    total = w.product_with(w.op("Concat", [x, h], axis=1), K, layer.Wb + layer.Rb)
    activation = (layer.attributes.get("activations") or [b"Tanh"])[0]
    w.answer(layer, w.op(_RNN_ACTIVATIONS[activation], [total]))


_CELLS: Mapping[str, Callable[[_Writer, _Layer], None]] = {
    "LSTM": _lstm,
    "GRU": _gru,
    "RNN": _rnn,
}


def _flat(w: _Writer, layer: _Layer) -> tuple[str, str, str]:
    """Return x (B, F), h and c (B, H) of one step."""
    x = w.shaped(layer.x, [-1, layer.W.shape[1]])
    h = w.shaped(layer.h, [-1, layer.hidden])
    return x, h, w.shaped(layer.c, [-1, layer.hidden]) if layer.c else ""


def _opset(model: onnx.ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if not entry.domain), default=0)


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Leave out weights that only an operator that was taken apart has read."""
    read = {name for node in graph.node for name in node.input}
    inside = any(a.HasField("g") for node in graph.node for a in node.attribute)
    if inside:  # what a graph within a node reads is not looked for
        return
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
