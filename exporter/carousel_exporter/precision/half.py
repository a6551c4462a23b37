"""Half precision: weights and states are kept as float16, and computed with as float32.

ONNX Runtime has no float16 kernels for recurrent layers or products on x86 processors, so what is
left to gain is size: of the file, of live and of parked sessions. A state is rounded after every
step, not where a run happens to end, so that it doesn't matter how a sequence is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from carousel.v1 import manifest_pb2, tensor_pb2
from carousel_exporter.adoption.evidence import Role, roles_given, roles_taken
from carousel_exporter.adoption.graphs import rename_uses
from carousel_exporter.precision.cells import GATES, Cell, Step, WrittenStep
from carousel_exporter.precision.nodes import Names, Nodes
from carousel_exporter.precision.unrolling import unroll

#: Smaller constants are means, scales and biases: they weigh nothing, and digits matter in them.
_LEAST_ELEMENTS: Final = 256
_LARGEST: Final = float(np.finfo(np.float16).max)


@dataclass
class Halved:
    """What is float16 now, by name, and why the rest is not."""

    weights: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def halve(
    model: onnx.ModelProto, manifest: manifest_pb2.ModelManifest, *, keep_states: bool = False
) -> Halved:
    """Keep a model's weights, and its states but for `keep_states`, as float16, in place."""
    result = Halved()
    if not keep_states:
        _halve_states(model, manifest, result)
    _halve_weights(model.graph, result)
    return result


class _RoundedStep:
    """A step of a recurrent layer, its new states rounded to half precision.

    ONNX Runtime's LSTM and GRU give a row the same bits beside any others. Its RNN does not, and a
    difference in the last bit can tip a state to the next float16: so the RNN is written out.
    """

    def __init__(self, g: Nodes, cell: Cell, *, joined: bool) -> None:
        self._exact: Step = (
            WrittenStep(g, cell, joined=joined) if cell.kind == "RNN" else _OperatorStep(g, cell)
        )

    def add(self, g: Nodes, x: str, states: Sequence[str]) -> list[str]:
        """Add the step: x (B, F) and states (B, H) to the answer, not rounded, and states."""
        answer, *new = self._exact.add(g, x, states)
        return [answer, *(_rounded(g, name) for name in new)]


class _OperatorStep:
    """A step of a recurrent operator itself, which is the fastest way to compute one."""

    def __init__(self, g: Nodes, cell: Cell) -> None:
        self._cell = cell
        self._axis0 = g.constant("first_axis", np.array([0]))

    def add(self, g: Nodes, x: str, states: Sequence[str]) -> list[str]:
        """Add the step: x (B, F) and states (B, H) to the answer and new states."""
        node = self._cell.node
        wide = [g.op("Unsqueeze", [name, self._axis0], "wide") for name in (x, *states)]
        weights = [*node.input[1:4], ""][:3]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        last = [g.fresh("last") for _ in states]
        g.named(node.op_type, [wide[0], *weights, "", *wide[1:]], ["", *last], **attributes)
        new = [g.op("Squeeze", [name, self._axis0], "new") for name in last]  # (B, H)
        return [new[0], *new]


def _rounded(g: Nodes, value: str) -> str:
    narrow = g.op("Cast", [value], "narrow", to=TensorProto.FLOAT16)
    return g.op("Cast", [narrow], "rounded", to=TensorProto.FLOAT)


def _halve_states(
    model: onnx.ModelProto, manifest: manifest_pb2.ModelManifest, result: Halved
) -> None:
    graph = model.graph
    roles = {s.name: _role(graph, s.name, s.output) for s in manifest.states}
    loops = manifest.form == manifest_pb2.MODEL_FORM_SEQUENCE
    done: set[str] = set()
    if any(roles.values()):  # a graph of one step rounds at each by itself
        done = set(unroll(model, _RoundedStep, kinds=GATES if loops else {"RNN"}).cells)
    for spec in manifest.states:
        why = _unfit(spec)
        if not why and not roles[spec.name]:
            why = "it is no recurrent layer's own: what it holds keeps its digits"
        layers = {label for label, _ in roles[spec.name]}
        if not why and loops and not layers <= done:
            why = "its layer loops over time in a way that can't be rounded at each step"
        if why:
            result.left[spec.name] = why
            continue
        _halve_state(graph, spec)
        result.states.append(spec.name)


def _role(graph: onnx.GraphProto, name: str, output: str) -> frozenset[Role]:
    """Return the states of recurrent nodes that a state is, and nothing else; empty if none."""
    taken = roles_taken(graph, name)
    return taken if taken == roles_given(graph, output) else frozenset()


def _unfit(spec: manifest_pb2.StateSpec) -> str:
    if spec.dtype != tensor_pb2.DATA_TYPE_FLOAT32:
        return "it is not float32"
    initial = np.frombuffer(spec.initial, "<f4")
    if (np.abs(initial) > _LARGEST).any():
        return "it begins with a value beyond float16"
    return ""


def _halve_state(graph: onnx.GraphProto, spec: manifest_pb2.StateSpec) -> None:
    """Turn one state's input and output into float16, and its first value in the manifest."""
    g = Nodes(Names(graph), spec.name)
    inner, new = g.fresh("float32"), g.fresh("new")
    rename_uses(graph.node, {spec.name: inner, spec.output: new})
    for node in graph.node:
        for place, name in enumerate(node.output):
            node.output[place] = new if name == spec.output else name
    g.named("Cast", [spec.name], [inner], to=TensorProto.FLOAT)
    graph.node.insert(0, g.list[0])
    g.named("Cast", [new], [spec.output], to=TensorProto.FLOAT16)
    graph.node.append(g.list[1])
    for value in (*graph.input, *graph.output):
        if value.name in {spec.name, spec.output}:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    spec.dtype = tensor_pb2.DATA_TYPE_FLOAT16
    spec.initial = np.frombuffer(spec.initial, "<f4").astype("<f2").tobytes()


def _halve_weights(graph: onnx.GraphProto, result: Halved) -> None:
    """Store large constants as float16 behind a Cast, which ONNX Runtime does once, on loading."""
    names, casts = Names(graph), []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.ndim < 2 or array.size < _LEAST_ELEMENTS:
            continue
        if not (np.abs(array) <= _LARGEST).all():
            result.left[tensor.name] = "it holds a value beyond float16"
            continue
        wide = tensor.name
        narrow = names.fresh(f"{wide}.float16")
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), narrow))
        casts.append(helper.make_node("Cast", [narrow], [wide], name=wide, to=TensorProto.FLOAT))
        result.weights.append(wide)
    nodes = [*casts, *graph.node]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
