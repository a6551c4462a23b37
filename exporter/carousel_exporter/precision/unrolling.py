"""Recurrent operators taken apart into a step and a loop over time.

A run of one step, which is what most clients send, takes a branch without a loop. Both hold the
same step, so that it doesn't matter how a sequence is cut.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper

from carousel_exporter.adoption.evidence import MOVES, label_of
from carousel_exporter.adoption.graphs import (
    constants_of,
    producers_of,
    remove_identities,
    remove_unused,
)
from carousel_exporter.precision.cells import GATES, Cell, StepMaker, read_cell
from carousel_exporter.precision.nodes import Names, Nodes


@dataclass
class Unrolled:
    """What became of a graph's recurrent operators.

    `bounded` are values that always lie between -1 and 1. `left` says of nodes that stay as they
    are why.
    """

    cells: list[str] = field(default_factory=list)
    bounded: set[str] = field(default_factory=set)
    left: dict[str, str] = field(default_factory=dict)


def follow(bounded: set[str], node: onnx.NodeProto) -> None:
    """Note that moving elements keeps them between -1 and 1."""
    moved = node.input if node.op_type == "Concat" else node.input[:1]
    if node.op_type in MOVES and moved and all(name in bounded for name in moved):
        bounded.update(node.output)


def unroll(
    model: onnx.ModelProto,
    make_step: StepMaker,
    *,
    kinds: Collection[str] = GATES,
    trust_states: bool = True,
) -> Unrolled:
    """Take a model's nodes of some `kinds` apart, in place; `make_step` says into what steps.

    Without `trust_states` h may begin beyond -1 and 1, and nothing counts as bounded.
    """
    graph = model.graph
    names, constants, result = Names(graph), constants_of(graph), Unrolled()
    unsqueezed = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Unsqueeze" and _axes(node, constants) == [0]
    }
    nodes: list[onnx.NodeProto] = []
    for place, node in enumerate(graph.node):
        follow(result.bounded, node)
        if node.op_type not in kinds:
            nodes.append(node)
            continue
        label = label_of(node, place)
        cell = read_cell(node, constants)
        if isinstance(cell, str):
            result.left[label] = cell
            nodes.append(node)
            continue
        g = Nodes(names, node.name or node.op_type.lower())
        bounded = trust_states and cell.bounded
        nodes += _Apart(g, cell, result, unsqueezed, bounded=bounded).nodes(make_step)
        result.cells.append(label)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(names.constants)
    _join_squeezes(graph)
    remove_unused(model)
    return result


class _Apart:
    """One recurrent node, written out."""

    def __init__(
        self,
        g: Nodes,
        cell: Cell,
        result: Unrolled,
        unsqueezed: Mapping[str, str],
        *,
        bounded: bool,
    ) -> None:
        """Take a node apart; `unsqueezed` says of (1, B, H) values what they were as (B, H)."""
        self._g = g
        self._inner = unsqueezed
        self._cell = cell
        self._result = result
        self._is_bounded = bounded
        self._outputs = [*cell.node.output, "", "", ""][: 1 + len(cell.first)]
        self._x = cell.node.input[0]

    def nodes(self, make_step: StepMaker) -> list[onnx.NodeProto]:
        """Return the nodes that stand for the recurrent one, its outputs under their old names."""
        g, cell = self._g, self._cell
        joined = self._is_bounded and self._x in self._result.bounded
        self._step = make_step(g, cell, joined=joined)
        axis0, axis1 = (g.constant(f"axis{n}", np.array([n])) for n in (0, 1))
        first = [self._inner.get(n) or g.op("Squeeze", [n, axis0], "first") for n in cell.first]
        zero, one = g.constant("place0", np.int64(0)), g.constant("one_step", np.int64(1))
        steps = g.op("Gather", [g.op("Shape", [self._x]), zero], "steps", axis=0)
        is_one = g.op("Equal", [steps, one], "is_one")
        turns = g.op("Where", [is_one, zero, steps], "turns")
        looped = self._loop(first, turns, axis1)
        found = g.ops(
            "If",
            [is_one],
            ["Y", *("last" for _ in first)],
            then_branch=self._one_step(first, axis0),
            else_branch=self._handed_on(looped),
        )
        axes = [axis1, *[axis0] * len(first)]
        for inner, name, axis in zip(found, self._outputs, axes, strict=True):
            if name:
                g.named("Unsqueeze", [inner, axis], [name])
        if self._is_bounded:
            self._result.bounded |= {found[0], found[1], first[0], *self._outputs[:2]} - {""}
        return g.list

    def _one_step(self, first: list[str], axis0: str) -> onnx.GraphProto:
        """Return the branch for T = 1: Y (1, B, H) and the states (B, H) after the step."""
        g = Nodes(self._g.names, f"{self._g.prefix}.once")
        x = g.op("Squeeze", [self._x, axis0], "x")  # (B, F)
        if self._x in self._result.bounded:
            self._result.bounded.add(x)
        y, *new = self._step.add(g, x, first)
        y = g.op("Unsqueeze", [y, axis0], "y")
        return helper.make_graph(g.list, g.prefix, [], [_float(n) for n in (y, *new)])

    def _loop(self, first: list[str], turns: str, axis1: str) -> list[str]:
        """Add all steps: Y (T, B, H) and the states (B, H) after each row's end.

        It stands outside of the branch, where it turns 0 times if that is not taken: ONNX Runtime
        packs constants for products in a body, and in a body within a branch it doesn't.
        """
        g, cell = self._g, self._cell
        body = Nodes(g.names, f"{g.prefix}.step")
        turn, goes_on = body.fresh("t"), body.fresh("go")
        before = [body.fresh("state") for _ in first]
        x = body.op("Gather", [self._x, turn], "x", axis=0)  # (B, F)
        bounded = self._result.bounded
        bounded |= {before[0]} if self._is_bounded else set()
        bounded |= {x} if self._x in bounded else set()
        y, *new = self._step.add(body, x, before)
        if cell.lengths:
            wide = g.op("Cast", [cell.lengths], "ends", to=TensorProto.INT64)
            ends = g.op("Unsqueeze", [wide, axis1], "ends")  # (B, 1)
            is_step = body.op("Less", [turn, ends], "is_step")
            pairs = zip(new, before, strict=True)
            new = [body.op("Where", [is_step, now, old], "kept") for now, old in pairs]
        y = body.op("Identity", [y], "y")
        ends_later = body.op("Identity", [goes_on], "goes_on")
        declare = helper.make_tensor_value_info
        inputs = [declare(turn, TensorProto.INT64, []), declare(goes_on, TensorProto.BOOL, [])]
        inputs += [_float(name, cell.hidden) for name in before]
        outputs = [declare(ends_later, TensorProto.BOOL, [])]
        outputs += [_float(name, cell.hidden) for name in (*new, y)]
        step = helper.make_graph(body.list, body.prefix, inputs, outputs)
        *last, Y = g.ops("Loop", [turns, "", *first], [*("last" for _ in first), "Y"], body=step)
        return [Y, *last]

    def _handed_on(self, values: list[str]) -> onnx.GraphProto:
        """Return a branch that gives values from outside of it."""
        g = Nodes(self._g.names, f"{self._g.prefix}.looped")
        copies = [g.op("Identity", [value], "value") for value in values]
        return helper.make_graph(g.list, g.prefix, [], [_float(name) for name in copies])


def _join_squeezes(graph: onnx.GraphProto) -> None:
    """Leave out the Squeeze of what was just unsqueezed: around an If, it would copy."""
    producers, constants = producers_of(graph), constants_of(graph)
    for node in graph.node:
        before = producers.get(node.input[0]) if node.op_type == "Squeeze" else None
        if before is not None and before.op_type == "Unsqueeze":
            axes = [_axes(each, constants) for each in (node, before)]
            if axes[0] is not None and axes[0] == axes[1]:
                node.CopyFrom(
                    helper.make_node("Identity", [before.input[0]], list(node.output), node.name)
                )
    remove_identities(graph)


def _axes(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> list[int] | None:
    """Return the axes that a Squeeze or an Unsqueeze names, an input from opset 13 on."""
    for attribute in node.attribute:
        if attribute.name == "axes":
            return list(attribute.ints)
    found = constants.get(node.input[1]) if len(node.input) > 1 else None
    return None if found is None else [int(axis) for axis in found]


def _float(name: str, width: int | None = None) -> onnx.ValueInfoProto:
    """Declare a value: (B, width), or of any shape."""
    shape = None if width is None else [None, width]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
