"""Recurrent layers in a model file: ONNX's own operators, and a Scan for the one it hasn't.

An LSTM whose h is projected (`proj_size`) has no operator in ONNX, so its equations stand in the
body of a Scan over time. docs/decisions/0011-projected-lstm-as-scan.md says what else was tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from carousel_exporter.cells import NONLINEARITIES
from carousel_exporter.graph import BATCH, GraphBuilder, value_info
from carousel_exporter.network import Architecture, cell_name, hidden_name

Weights = Mapping[str, np.ndarray]
"""A network's parameters by their names in PyTorch."""


@dataclass(frozen=True)
class Layer:
    """One recurrent layer of a network; `number` counts from 0, which is the lowest."""

    network: Architecture
    weights: Weights
    number: int

    @property
    def name(self) -> str:
        """What the names of the layer's nodes and constants begin with."""
        return f"layer{self.number}"

    @property
    def states(self) -> list[str]:
        """Names of the layer's states: h, and c where there is one."""
        names = [hidden_name(self.number), cell_name(self.number)]
        return names[: 1 + self.network.kind.has_cell_state]

    def parameters(self, *kinds: str) -> list[np.ndarray]:
        """Return the layer's parameters of some kinds ("weight_ih"), those that it has."""
        keys = [f"{self.network.cell}.{kind}_l{self.number}" for kind in kinds]
        return [self.weights[key] for key in keys if key in self.weights]


def add_layer(g: GraphBuilder, layer: Layer, x: str, lengths: str) -> str:
    """Add a recurrent layer: x (T, B, F) to its h at each step (T, B, H), states (B, …) each.

    `lengths` (B,) says how many steps of each row are valid; a row's new states are those after
    its last valid step. Returns the answer's name.
    """
    if layer.network.projection:
        return _add_projected(g, layer, x, lengths)
    return _add_operator(g, layer, x, lengths)


def out(state: str) -> str:
    """Return the name of the output that holds a state after the run."""
    return f"{state}_out"


def onnx_gates(weight: np.ndarray, places: tuple[int, ...]) -> np.ndarray:
    """Put the gates on axis 0, (gates * H, …), from PyTorch's order into ONNX's.

    `places` says which of PyTorch's gates comes first, second and so on: Cell.onnx_gates.
    """
    gates = np.split(weight, len(places))
    return np.concatenate([gates[place] for place in places])


def _add_operator(g: GraphBuilder, layer: Layer, x: str, lengths: str) -> str:
    """Add ONNX's LSTM, GRU or RNN: W (1, G * H, F), R (1, G * H, H), B (1, 2 * G * H)."""
    network, top, axis0 = layer.network, layer.name, g.axis(0)
    kind = network.kind

    def constant(name: str, *kinds: str) -> str:
        arrays = [onnx_gates(each, kind.onnx_gates) for each in layer.parameters(*kinds)]
        return g.constant(f"{top}.{name}", np.concatenate(arrays)[None]) if arrays else ""

    inputs = [
        x,
        constant("W", "weight_ih"),
        constant("R", "weight_hh"),
        constant("B", "bias_ih", "bias_hh"),
        lengths,
        *(g.node("Unsqueeze", [s, axis0], f"{top}.{s}") for s in layer.states),  # (1, B, H)
    ]
    outputs = [f"{top}.Y", *(f"{top}.Y_{state[0]}" for state in layer.states)]
    attributes: dict[str, Any] = {"hidden_size": network.hidden, **kind.attributes}
    if kind.gates == 1:
        attributes["activations"] = [NONLINEARITIES[network.nonlinearity]]
    g.nodes(kind.title, inputs, outputs, name=f"{top}.{kind.name}", **attributes)
    for state, new in zip(layer.states, outputs[1:], strict=True):
        g.node("Squeeze", [new, axis0], out(state))  # (B, H)
    return g.node("Squeeze", [outputs[0], g.axis(1)], top)  # (T, 1, B, H) → (T, B, H)


def _add_projected(g: GraphBuilder, layer: Layer, x: str, lengths: str) -> str:
    """Add an LSTM with h (B, P) projected from o * tanh(c) (B, H), as a Scan over the steps.

    The product with W is made for all steps at once, in front. Rows that are done keep their
    states, as with ONNX's own operators.
    """
    top = layer.name
    W, R, P = layer.parameters("weight_ih", "weight_hh", "weight_hr")  # (4H, F), (4H, P), (P, H)
    gates = g.node("MatMul", [x, g.constant(f"{top}.W", W.T)], f"{top}.Wx")  # (T, B, 4H)
    if biases := layer.parameters("bias_ih", "bias_hh"):
        bias = g.constant(f"{top}.b", np.sum(biases, axis=0, dtype=np.float64))
        gates = g.node("Add", [gates, bias], f"{top}.Wx_b")
    g.constant(f"{top}.R", R.T)
    g.constant(f"{top}.P", P.T)
    g.node("Unsqueeze", [lengths, g.axis(1)], f"{top}.lengths")  # (B, 1)
    g.nodes(
        "Scan",
        [*layer.states, gates, _add_clock(g, x)],
        [*(out(state) for state in layer.states), top],
        name=f"{top}.scan",
        body=_projected_step(top, layer.network.hidden, layer.network.projection),
        num_scan_inputs=2,
    )
    return top


def _add_clock(g: GraphBuilder, x: str) -> str:
    """Add the numbers 0, 1, … of a run's steps, (T,) int32; once for all layers."""
    if g.has("clock"):
        return "clock"
    zero, one = g.constant("clock.0", 0, np.int32), g.constant("clock.1", 1, np.int32)
    shape = g.node("Shape", [x], "clock.shape")
    steps = g.node("Gather", [shape, g.constant("clock.axis", 0, np.int64)], "clock.T64", axis=0)
    steps = g.node("Cast", [steps], "clock.T", to=TensorProto.INT32)
    return g.node("Range", [zero, steps, one], "clock")


def _projected_step(top: str, hidden: int, projected: int) -> onnx.GraphProto:
    """Return one step: h (B, P), c (B, H), the input's share of the gates (B, 4H) and the clock.

    Gates are in PyTorch's order, i, f, g, o; the constants are the surrounding graph's.
    """
    names = {n: f"{top}.step.{n}" for n in ("h", "c", "Wx", "t", "h_new", "c_new", "y")}

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        inner = [name if name.startswith(top) else f"{top}.step.{name}" for name in inputs]
        outputs = [f"{top}.step.{name}" for name in output.split()]
        return helper.make_node(operator, inner, outputs, name=outputs[0], **attributes)

    nodes = [
        node("MatMul", ["h", f"{top}.R"], "Rh"),
        node("Add", ["Rh", "Wx"], "gates"),
        node("Split", ["gates"], "i_in f_in g_in o_in", axis=1),
        node("Sigmoid", ["i_in"], "i"),
        node("Sigmoid", ["f_in"], "f"),
        node("Tanh", ["g_in"], "g"),
        node("Sigmoid", ["o_in"], "o"),
        node("Mul", ["f", "c"], "kept"),
        node("Mul", ["i", "g"], "entered"),
        node("Add", ["kept", "entered"], "c_next"),
        node("Tanh", ["c_next"], "squashed"),
        node("Mul", ["o", "squashed"], "shown"),
        node("MatMul", ["shown", f"{top}.P"], "h_next"),
        node("Less", ["t", f"{top}.lengths"], "goes_on"),  # (B, 1)
        node("Where", ["goes_on", "c_next", "c"], "c_new"),
        node("Where", ["goes_on", "h_next", "h"], "h_new"),
        node("Identity", ["h_new"], "y"),
    ]
    inputs = [
        value_info(names["h"], [BATCH, projected]),
        value_info(names["c"], [BATCH, hidden]),
        value_info(names["Wx"], [BATCH, 4 * hidden]),
        value_info(names["t"], [], dtype=TensorProto.INT32),
    ]
    outputs = [
        value_info(names["h_new"], [BATCH, projected]),
        value_info(names["c_new"], [BATCH, hidden]),
        value_info(names["y"], [BATCH, projected]),
    ]
    return helper.make_graph(nodes, f"{top}.step", inputs, outputs)
