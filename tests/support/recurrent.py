"""Models of each recurrent operator, with weights at random; and models that tell on mistakes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.support.models import SEQUENCE, model, state, tensor

#: Operator, attributes, gates. `linear_before_reset` says where a GRU applies its reset gate.
CELLS = {
    "lstm": ("LSTM", {}, 4),
    "gru": ("GRU", {}, 3),
    "gru-reset-after": ("GRU", {"linear_before_reset": 1}, 3),
    "rnn": ("RNN", {}, 1),
    "rnn-relu": ("RNN", {"activations": ["Relu"]}, 1),
}


def cell(
    name: str,
    *,
    features: int = 3,
    hidden: int = 8,
    layers: int = 1,
    bias: bool = True,
    opset: int = 17,
    seed: int = 0,
    sequence_lens: bool = True,
    lengths_elsewhere: bool = False,
    **more: object,
) -> onnx.ModelProto:
    """Return a model of one kind of cell in sequence form; its answer is the top layer's h.

    With `lengths_elsewhere` the lengths are read by another node too, which adds them to the
    answer: 1 a step, once the model is in step form.
    """
    kind, attributes, gates = CELLS[name]
    rng = np.random.default_rng(seed)
    constants: dict[str, np.ndarray] = {"axis0": np.array([0]), "axis1": np.array([1])}
    nodes, states, value = [], [], "x"

    def weight(label, *shape):
        # No larger than keeps a state from growing without bound.
        scale = min(0.3, hidden**-0.5)
        constants[label] = rng.normal(0, scale, shape).astype(np.float32)
        return label

    def axis(operator, source, at, result):
        if opset < 13:
            return helper.make_node(operator, [source], [result], axes=[at])
        return helper.make_node(operator, [source, f"axis{at}"], [result])

    for layer in range(layers):
        size = features if layer == 0 else hidden
        own = [f"h{layer}"] + [f"c{layer}"] * (kind == "LSTM")
        states += [state(s, hidden) for s in own]
        nodes += [axis("Unsqueeze", s, 0, f"{s}_3d") for s in own]
        inputs = [
            value,
            weight(f"W{layer}", 1, gates * hidden, size),
            weight(f"R{layer}", 1, gates * hidden, hidden),
            weight(f"B{layer}", 1, 2 * gates * hidden) if bias else "",
            "sequence_lens" if sequence_lens else "",
            *(f"{s}_3d" for s in own),
        ]
        outputs = [f"y{layer}_4d", *(f"{s}_new" for s in own)]
        nodes.append(
            helper.make_node(kind, inputs, outputs, hidden_size=hidden, **attributes, **more)
        )
        nodes.append(axis("Squeeze", f"y{layer}_4d", 1, f"y{layer}"))
        nodes += [axis("Squeeze", f"{s}_new", 0, f"{s}_out") for s in own]
        value = f"y{layer}"
    if lengths_elsewhere:
        nodes += [
            helper.make_node("Cast", ["sequence_lens"], ["lengths_f"], to=onnx.TensorProto.FLOAT),
            axis("Unsqueeze", "lengths_f", 1, "lengths_2d"),
            helper.make_node("Add", [value, "lengths_2d"], ["y"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", [value], ["y"]))
    return model(
        nodes,
        inputs=[tensor("x", features)],
        outputs=[tensor("y", hidden)],
        states=states,
        form=SEQUENCE,
        sequence_lens="sequence_lens" if sequence_lens else "",
        constants=constants,
        opset=opset,
    )


def growing():
    """Return a model whose h is x + 1e20 h, in the first of its places: infinite at the third 1."""
    made = cell("rnn-relu")
    weights = {"W0": np.zeros((1, 8, 3)), "R0": np.eye(8)[None] * 1e20, "B0": np.zeros((1, 16))}
    weights["W0"][0, 0, 0] = 1
    for value in made.graph.initializer:
        if value.name in weights:
            value.CopyFrom(numpy_helper.from_array(np.float32(weights[value.name]), value.name))
    return made
