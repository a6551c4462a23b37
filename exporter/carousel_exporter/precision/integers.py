"""Matrix products in 8-bit integers, each row with a scale of its own or one that is fixed.

ONNX Runtime's own dynamic quantisation takes one scale from all rows of a run, so that a row's
answer depends on its neighbours; here it never does. Activations are unsigned, weights signed,
which is what processors have instructions for (VPDPBUSD).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx

from carousel_exporter.adoption.graphs import constants_of, remove_unused, subgraphs
from carousel_exporter.precision.nodes import Names, Nodes
from carousel_exporter.precision.unrolling import follow

MICROSOFT: Final = "com.microsoft"
#: Levels on each side of 0. Processors without VNNI add two products in 16 bits, and 2 * 255 * 64
#: is the most that fits: so the numbers are the same on all of them.
ACTIVATION_LEVELS: Final = 127
WEIGHT_LEVELS: Final = 64
_ZERO_POINT: Final = 128
#: Products narrower than this gain nothing, and stay as they are.
_LEAST: Final = 32
#: What a row of zeros is divided by.
_TINY: Final = 1e-30


@dataclass
class Quantised:
    """The products that are in integers now, and why others are not."""

    products: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Weights:
    """A matrix (K, N) in integers and the scale of each column (N,), under their names."""

    integers: str
    scales: str


def quantise(model: onnx.ModelProto, bounded: Collection[str]) -> Quantised:
    """Turn products with constant matrices into products of integers, in place, in bodies too.

    `bounded` are values that always lie between -1 and 1: they have a fixed scale.
    """
    worker = _Quantiser(model, bounded)
    worker.visit(model.graph, {})
    model.graph.initializer.extend(worker.names.constants)
    remove_unused(model)
    if worker.result.products and all(o.domain != MICROSOFT for o in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    return worker.result


class _Quantiser:
    def __init__(self, model: onnx.ModelProto, bounded: Collection[str]) -> None:
        self.names = Names(model.graph)
        self.result = Quantised()
        self._bounded = set(bounded)
        self._weights: dict[tuple[str, bool], _Weights] = {}
        self._opset = max((o.version for o in model.opset_import if not o.domain), default=0)
        self._shared: dict[str, str] = {}
        self._eight: dict[str, tuple[str, str]] = {}

    def visit(self, graph: onnx.GraphProto, outer: dict[str, np.ndarray]) -> None:
        """Rewrite the products of a graph and of the bodies in it."""
        constants = outer | constants_of(graph)
        nodes: list[onnx.NodeProto] = []
        seen, self._eight = self._eight, {}
        for node in graph.node:
            follow(self._bounded, node)
            for inner in subgraphs(node):
                self.visit(inner, constants)
            nodes += self._of_node(node, constants)
        self._eight = seen
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)

    def _of_node(
        self, node: onnx.NodeProto, constants: dict[str, np.ndarray]
    ) -> Sequence[onnx.NodeProto]:
        if node.op_type not in {"MatMul", "Gemm"}:
            return [node]
        transposed = _attribute(node, "transB", 0)
        matrix = constants.get(node.input[1])
        if matrix is None or matrix.ndim != 2 or matrix.dtype != np.float32:
            return [node]
        label = node.name or node.output[0]
        if why := _unfit(node, matrix):
            self.result.left[label] = why
            return [node]
        g = Nodes(self.names, node.name or node.op_type.lower())
        weights = self._quantised(g, node.input[1], matrix, transposed=bool(transposed))
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
        if node.input[0] in self._bounded:
            self._fixed(g, node.input[0], weights, bias, node.output[0])
        else:
            self._by_row(g, node.input[0], weights, bias, node.output[0])
        self.result.products.append(label)
        return g.list

    def _quantised(self, g: Nodes, name: str, matrix: np.ndarray, *, transposed: bool) -> _Weights:
        if (name, transposed) not in self._weights:
            wide = matrix.T if transposed else matrix
            scales = np.maximum(np.abs(wide).max(axis=0) / WEIGHT_LEVELS, _TINY).astype(np.float32)
            integers = np.rint(wide / scales).astype(np.int8)
            self._weights[name, transposed] = _Weights(
                g.constant("W8", integers), g.constant("W8_scales", scales)
            )
        return self._weights[name, transposed]

    def _fixed(self, g: Nodes, x: str, weights: _Weights, bias: str, product: str) -> None:
        """Add x (…, K), between -1 and 1, times W (K, N), plus a bias if there is one."""
        step, zero = self._constant("step"), self._constant("zero")
        if x not in self._eight:
            self._eight[x] = g.op("QuantizeLinear", [x, step, zero], "x8"), ""
        inputs = [self._eight[x][0], weights.integers, step, weights.scales, zero]
        inputs += ["", bias] if bias else []
        g.named("MatMulIntegerToFloat", inputs, [product], domain=MICROSOFT)

    def _by_row(self, g: Nodes, x: str, weights: _Weights, bias: str, product: str) -> None:
        """Do the same with any x: each row is divided by its largest |value| first."""
        step, zero = self._constant("step"), self._constant("zero")
        if x not in self._eight:
            largest = self._largest(g, g.op("Abs", [x]))
            scale = g.op("Max", [largest, self._constant("tiny")], "scale")  # (…, 1)
            unit = g.op("Div", [x, scale], "unit")
            self._eight[x] = g.op("QuantizeLinear", [unit, step, zero], "x8"), scale
        eight, scale = self._eight[x]
        inputs = [eight, weights.integers, step, weights.scales, zero]
        unit = g.op("MatMulIntegerToFloat", inputs, "unit_product", domain=MICROSOFT)
        if not bias:
            g.named("Mul", [unit, scale], [product])
            return
        g.named("Add", [g.op("Mul", [unit, scale], "product"), bias], [product])

    def _largest(self, g: Nodes, x: str) -> str:
        """Add the largest of each row (…, 1); from opset 18 on the axes are an input."""
        if self._opset < 18:
            return g.op("ReduceMax", [x], axes=[-1], keepdims=1)
        return g.op("ReduceMax", [x, self._constant("last")], keepdims=1)

    def _constant(self, name: str) -> str:
        values: dict[str, np.ndarray | np.generic] = {
            "step": np.float32(1 / ACTIVATION_LEVELS),
            "zero": np.uint8(_ZERO_POINT),
            "tiny": np.float32(_TINY),
            "last": np.array([-1]),
        }
        if name not in self._shared:
            self._shared[name] = self.names.constant(f"int8.{name}", values[name])
        return self._shared[name]


def _unfit(node: onnx.NodeProto, matrix: np.ndarray) -> str:
    """Say why a product stays in float32; "" if it needn't."""
    if _attribute(node, "transA", 0) or any(
        _attribute(node, n, 1.0) != 1 for n in ("alpha", "beta")
    ):
        return "it is a Gemm with factors"
    if min(matrix.shape) < _LEAST:
        return f"its matrix is only {matrix.shape[0]} by {matrix.shape[1]}"
    if not np.isfinite(matrix).all():
        return "its matrix is not finite"
    return ""


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else float(onnx.helper.get_attribute_value(found))
