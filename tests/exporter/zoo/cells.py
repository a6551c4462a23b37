"""Recurrent layers, as one operator or as many: values and states of (B, H) in, the same out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import TensorProto, helper

from tests.exporter.zoo.graph import Graph
from tests.exporter.zoo.recipe import HIDDEN, OPERATORS, Recipe

GATES = {"lstm": 4, "gru": 3, "gru_reset_first": 3, "rnn_tanh": 1, "rnn_relu": 1}
States = list[str]
Layer = Callable[[str, States], tuple[str, States]]
"""From x (T, B, F) or (B, F) and states (B, H) each to h for every step and new states."""


def layer(g: Graph, recipe: Recipe, size: int, rng: np.random.Generator) -> Layer:
    """Return a layer of a recipe's cell whose input is `size` wide."""
    time_axis = recipe.form != "step"
    if recipe.cell in OPERATORS:
        return _operator(g, recipe, size, rng, time_axis=time_axis)
    cell = _plain(g, recipe, size, rng)
    return (lambda x, states: _scan(g, cell, x, states, recipe)) if time_axis else cell


def _operator(
    g: Graph, recipe: Recipe, size: int, rng: np.random.Generator, *, time_axis: bool
) -> Layer:
    rows = GATES[recipe.cell] * HIDDEN
    weights = [_weight(g, rng, shape) for shape in ((1, rows, size), (1, rows, HIDDEN))]
    bias = _weight(g, rng, (1, 2 * rows))
    kind = recipe.cell.partition("_")[0].upper()
    attributes = {
        "gru": {"linear_before_reset": 1},
        "rnn_relu": {"activations": ["Relu"]},
    }.get(recipe.cell, {})

    def run(x: str, states: States) -> tuple[str, States]:
        x = x if time_axis else g.unsqueeze(x, [0])  # (T, B, F)
        lengths = "lengths" if "lengths" in recipe.extras else ""
        before = [g.unsqueeze(state, [0]) for state in states]  # (1, B, H)
        every, *after = g.nodes_of(
            kind,
            *(x, *weights, bias, lengths, *before),
            outputs=1 + len(states),
            hidden_size=HIDDEN,
            **attributes,
        )
        new = [g.squeeze(state, [0]) for state in after]
        return (g.squeeze(every, [1]) if time_axis else g.squeeze(every, [0, 1])), new

    return run


def _plain(g: Graph, recipe: Recipe, size: int, rng: np.random.Generator) -> Layer:
    """One step out of plain operators, x (B, F); gates in this order: i f o g, or r z n."""
    rows = {"plain_lstm": 4, "plain_gru": 3, "plain_rnn": 1}[recipe.cell] * HIDDEN
    kind = recipe.kind
    W, R = (_weight(g, rng, (width, rows), kind) for width in (size, HIDDEN))
    b = _weight(g, rng, (rows,), kind)
    one = g.constant(1, kind)

    def part(value: str, number: int) -> str:
        return g.slice(value, number * HIDDEN, (number + 1) * HIDDEN, 1)

    def lstm(x: str, states: States) -> tuple[str, States]:
        h, c = states
        a = g.node("Add", g.node("Add", g.node("MatMul", x, W), g.node("MatMul", h, R)), b)
        i, f, o = (g.node("Sigmoid", part(a, number)) for number in range(3))
        kept = g.node("Mul", f, c)
        c = g.node("Add", kept, g.node("Mul", i, g.node("Tanh", part(a, 3))))
        h = g.node("Mul", o, g.node("Tanh", c))
        return h, [h, c]

    def gru(x: str, states: States) -> tuple[str, States]:
        (h,) = states
        a, u = g.node("Add", g.node("MatMul", x, W), b), g.node("MatMul", h, R)
        r, z = (g.node("Sigmoid", g.node("Add", part(a, k), part(u, k))) for k in range(2))
        n = g.node("Tanh", g.node("Add", part(a, 2), g.node("Mul", r, part(u, 2))))
        new = g.node("Mul", g.node("Sub", one, z), n)
        h = g.node("Add", new, g.node("Mul", z, h))
        return h, [h]

    def rnn(x: str, states: States) -> tuple[str, States]:
        a = g.node("Add", g.node("MatMul", x, W), g.node("MatMul", states[0], R))
        h = g.node("Tanh", g.node("Add", a, b))
        return h, [h]

    return {"plain_lstm": lstm, "plain_gru": gru, "plain_rnn": rnn}[recipe.cell]


def _scan(g: Graph, cell: Layer, x: str, states: States, recipe: Recipe) -> tuple[str, States]:
    """Run a cell over x (T, B, F) with a Scan, whose body sees the weights from outside."""
    outside, g.nodes = g.nodes, []
    names = [f"{state}_before" for state in states]
    h, after = cell(f"{x}_now", names)
    # A body may give no value out twice.
    given = [g.node("Identity", value) for value in [*after, h]]
    body, g.nodes = g.nodes, outside
    element = helper.np_dtype_to_tensor_dtype(recipe.kind)
    assert element != TensorProto.UNDEFINED
    subgraph = helper.make_graph(
        body,
        "cell",
        [helper.make_tensor_value_info(name, element, None) for name in [*names, f"{x}_now"]],
        [helper.make_tensor_value_info(name, element, None) for name in given],
    )
    *new, every = g.nodes_of(
        "Scan", *states, x, outputs=len(states) + 1, body=subgraph, num_scan_inputs=1
    )
    return every, new


def _weight(
    g: Graph, rng: np.random.Generator, shape: Sequence[int], kind: np.dtype | str = "float32"
) -> str:
    # Small enough that no state grows without end: answers would then differ by rounding alone.
    return g.constant(rng.normal(0, 0.35, shape), kind)
