"""Small models with the signatures of two published ones: a voice detector and a noise suppressor.

Their weights are random: what they answer means nothing, but everything that serves them must
answer the same.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_HIDDEN = 128


class _Graph:
    """Nodes and weights; everything in single precision unless told."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, value) -> str:
        array = np.asarray(value)
        name = f"constant{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int) -> str:
        scale = 1 / np.sqrt(shape[-2] if len(shape) > 1 else 16)
        return self.constant(self.rng.normal(0, scale, shape).astype(np.float32))

    def node(self, kind: str, *inputs: str, **attributes) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def name(self, value: str, name: str) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def lstm(self, x: str, h: str, c: str, size: int) -> tuple[str, str]:
        """A step out of plain operators: x (B, size), h and c (B, H) each."""
        a = self.node("MatMul", x, self.weight(size, 4 * _HIDDEN))
        b = self.node("MatMul", h, self.weight(_HIDDEN, 4 * _HIDDEN))
        gates = self.node("Add", self.node("Add", a, b), self.weight(4 * _HIDDEN))
        parts = [self.slice(gates, n * _HIDDEN, (n + 1) * _HIDDEN, 1) for n in range(4)]
        i, f, o = (self.node("Sigmoid", part) for part in parts[:3])
        new = self.node("Mul", i, self.node("Tanh", parts[3]))
        c = self.node("Add", self.node("Mul", f, c), new)
        return self.node("Mul", o, self.node("Tanh", c)), c

    def slice(self, value: str, begin: int, end: int, axis: int) -> str:
        bounds = [self.constant(np.array([n])) for n in (begin, end, axis)]
        return self.node("Slice", value, *bounds)

    def model(self, inputs, outputs, *, opset: int) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "audio", inputs, outputs, self.weights)
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )
        onnx.checker.check_model(made)
        return made


def voice_detector(*, fixed: bool = False) -> onnx.ModelProto:
    """A detector as Silero VAD declares itself: `sr` chooses a branch, `stateN` has no sizes.

    With `fixed` every dimension is fixed, and there is no `sr`.
    """
    g = _Graph(1)
    if fixed:
        wide = g.node("MatMul", "input", g.weight(576, _HIDDEN))
    else:
        is_wide = g.node("Equal", "sr", g.constant(np.array(16000)))
        branches = {
            f"{name}_branch": _branch(name, weight)
            for name, weight in (
                ("then", g.weight(576, _HIDDEN)),
                ("else", g.weight(576, _HIDDEN)),
            )
        }
        wide = g.node("If", is_wide, **branches)
    h, c = (g.node("Gather", "state", g.constant(np.array(n)), axis=0) for n in (0, 1))
    h, c = g.lstm(g.node("Relu", wide), h, c, _HIDDEN)
    if fixed:  # holds the batch at 1
        h = g.node("Reshape", h, g.constant(np.array([1, _HIDDEN])))
    both = [g.node("Unsqueeze", value, g.constant(np.array([0]))) for value in (h, c)]
    g.name(g.node("Concat", *both, axis=0), "stateN")
    g.name(g.node("Sigmoid", g.node("MatMul", h, g.weight(_HIDDEN, 1))), "output")
    batch = 1 if fixed else None
    inputs = [_info("input", [batch, 576] if fixed else [None, None])]
    inputs.append(_info("state", [2, batch, _HIDDEN]))
    if not fixed:
        inputs.append(helper.make_tensor_value_info("sr", TensorProto.INT64, []))
    new = [2, 1, _HIDDEN] if fixed else [None, None, None]
    return g.model(inputs, [_info("output", [batch, 1]), _info("stateN", new)], opset=16)


def mask_estimator() -> onnx.ModelProto:
    """DTLN's first model: two LSTM operators, h and c of both on the last axis, batch 1."""
    g = _Graph(2)
    parts = _unstack(g, "input_3")
    top, size, new = "input_2", 257, []
    for number in range(2):
        h, c = (g.node("Unsqueeze", parts[number, k], axes=[0]) for k in (0, 1))
        outputs = [f"lstm{number}.{name}" for name in ("Y", "h", "c")]
        weights = [g.weight(1, 4 * _HIDDEN, size), g.weight(1, 4 * _HIDDEN, _HIDDEN)]
        bias = g.constant(np.zeros((1, 8 * _HIDDEN), np.float32))
        g.nodes.append(
            helper.make_node("LSTM", [top, *weights, bias, "", h, c], outputs, hidden_size=_HIDDEN)
        )
        top, size = g.node("Squeeze", outputs[0], axes=[1]), _HIDDEN  # (1, 1, H)
        new.append([g.node("Squeeze", name, axes=[0]) for name in outputs[1:]])
    _restack(g, new, "tf_op_layer_stack_2")
    g.name(g.node("Sigmoid", g.node("MatMul", top, g.weight(_HIDDEN, 257))), "activation_2")
    state = [1, 2, _HIDDEN, 2]
    return g.model(
        [_info("input_2", [1, 1, 257]), _info("input_3", state)],
        [_info("activation_2", [1, 1, 257]), _info("tf_op_layer_stack_2", state)],
        opset=11,
    )


def sound_mender() -> onnx.ModelProto:
    """DTLN's second model: its LSTM out of plain operators; its outputs' batch has a name."""
    g = _Graph(3)
    parts = _unstack(g, "input_5")
    top, size, new = g.node("Squeeze", "input_4", axes=[1]), 512, []
    for number in range(2):
        h, c = g.lstm(top, parts[number, 0], parts[number, 1], size)
        new.append([h, c])
        top, size = h, _HIDDEN
    top = g.node("Reshape", top, g.constant(np.array([1, 1, _HIDDEN])))
    _restack(g, new, "tf_op_layer_stack_5")
    g.name(g.node("MatMul", top, g.weight(_HIDDEN, 512)), "conv1d_3")
    state = [2, _HIDDEN, 2]
    return g.model(
        [_info("input_4", [1, 1, 512]), _info("input_5", [1, *state])],
        [_info("conv1d_3", ["N", 1, 512]), _info("tf_op_layer_stack_5", ["N", *state])],
        opset=11,
    )


def _branch(name: str, weight: str) -> onnx.GraphProto:
    """A branch that captures the input."""
    return helper.make_graph(
        [helper.make_node("MatMul", ["input", weight], [f"{name}.wide"])],
        name,
        [],
        [_info(f"{name}.wide", [None, _HIDDEN])],
    )


def _unstack(g: _Graph, name: str) -> dict[tuple[int, int], str]:
    """Return (B, H) for each layer and kind of a state (B, 2, H, 2)."""
    values = {}
    for number in range(2):
        layer = g.node("Gather", name, g.constant(np.array(number)), axis=1)  # (B, H, 2)
        for kind in range(2):
            index = g.constant(np.array(kind))
            values[number, kind] = g.node("Gather", layer, index, axis=2)
    return values


def _restack(g: _Graph, new: list[list[str]], name: str) -> None:
    layers = []
    for values in new:
        kinds = [g.node("Unsqueeze", value, axes=[2]) for value in values]
        layers.append(g.node("Unsqueeze", g.node("Concat", *kinds, axis=2), axes=[1]))
    g.name(g.node("Concat", *layers, axis=1), name)


def _info(name: str, dims: list[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
