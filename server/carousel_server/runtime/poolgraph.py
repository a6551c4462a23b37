"""The pool graph: a model's graph with its states kept in pools, read first and written last.

For every state the graph gets a pool `[slots + 1, ...]` as an input and the same pool as an
output; the caller binds one buffer to both, so that states are updated in place. A run reads the
rows of its slots (`Gather`), runs the model, and writes the new states back (`ScatterND`).

All writes wait for everything else. `bad` says for each row whether a new state or an output is
not finite; it is computed from all of them, and the slots to write to are computed from `bad`: a
bad row is written to slot 0, which is nobody's, and its session's state stays what it was. So a
write can't overtake a read, and a run that fails half-way has written nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from carousel_server.spec import ModelSpec, StateSpec, TensorSpec

#: Prefix of all names that the pool graph adds.
PREFIX = "carousel/"
SLOTS = PREFIX + "slots"
BAD = PREFIX + "bad"
#: Where rows can differ in length: which steps are a row's own, and not padding behind its end.
WITHIN = PREFIX + "within"


def pool_input(state: StateSpec) -> str:
    """Return the name of the input that takes a state's pool."""
    return f"{PREFIX}pool/{state.name}"


def pool_output(state: StateSpec) -> str:
    """Return the name of the output that gives a state's pool back."""
    return f"{PREFIX}pool_out/{state.name}"


@dataclass
class _Nodes:
    """Nodes and constants that are being added to a graph, under names of their own."""

    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def op(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        name = output or f"{PREFIX}{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        name = PREFIX + name
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def shape(self, *dims: int) -> str:
        """Return a target shape for Reshape; 0 keeps the dimension that is there."""
        return self.constant("shape_" + "_".join(map(str, dims)), np.array(dims, np.int64))

    def sum_over_time(self, value: str) -> str:
        """Return the sum over axis 0; until opset 12 the axes were an attribute."""
        if self.opset < 13:
            return self.op("ReduceSum", [value], axes=[0], keepdims=0)
        return self.op("ReduceSum", [value, self.shape(0)], keepdims=0)


def build_pool_graph(model: onnx.ModelProto, spec: ModelSpec, slots: int) -> onnx.ModelProto:
    """Return `model` with its states in pools of `slots` rows, and slot 0 besides.

    Inputs: the model's own but its states, `SLOTS` int64 `[B]`, a pool a state, and with lengths
    `WITHIN` bool `[T, B, 1]`. Outputs: the model's own but its states, `BAD` bool `[B, 1]`, and a
    pool a state.

    Raises:
        ValueError: the graph's opset is below 11, which has no `ScatterND`.

    """
    opset = max((entry.version for entry in model.opset_import if not entry.domain), default=0)
    if opset < 11:
        raise ValueError(f"its opset is {opset}; 11 or later is served")
    reads, writes = _Nodes(opset), _Nodes(opset)
    for state in spec.states:
        reads.op("Gather", [pool_input(state), SLOTS], state.name, axis=0)
    _write_back(writes, spec)

    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    nodes = [*reads.nodes, *graph.node, *writes.nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(writes.constants.values())
    _declare_pools(graph, spec, slots + 1)
    return result


def _write_back(nodes: _Nodes, spec: ModelSpec) -> None:
    marks = [_mark(nodes, state.output, state, lead=1) for state in spec.states]
    for output in spec.outputs:
        if not spec.time_axis:
            marks.append(_mark(nodes, output.name, output, lead=1))
            continue
        mark = _mark(nodes, output.name, output, lead=2)  # (T, B, 1)
        if spec.ragged:
            zero = nodes.constant("zero_float32", np.float32(0))
            mark = nodes.op("Where", [WITHIN, mark, zero])
        marks.append(nodes.sum_over_time(mark))
    # Concat, unlike Sum, does not broadcast: an output that lost its batch axis fails here, before
    # anything is written.
    together = nodes.op("Concat", marks, axis=1)  # (B, states + outputs)
    zeros = nodes.constant("zeros_marks", np.zeros((len(marks), 1), np.float32))
    nodes.op("IsNaN", [nodes.op("MatMul", [together, zeros])], BAD)  # (B, 1)
    targets = nodes.op("Reshape", [SLOTS, nodes.shape(-1, 1)])
    scratch = nodes.constant("zero_int64", np.int64(0))
    targets = nodes.op("Where", [BAD, scratch, targets])  # (B, 1)
    for state in spec.states:
        nodes.op("ScatterND", [pool_input(state), targets, state.output], pool_output(state))


def _mark(nodes: _Nodes, value: str, spec: TensorSpec | StateSpec, *, lead: int) -> str:
    """Return float32 `[*lead dimensions, 1]`: NaN where `value` is not finite, otherwise 0.

    A product with a vector of zeros says it in one node: 0 x finite is 0, while 0 x inf and
    0 x NaN are NaN. Integers are always finite, but the writes must wait for them too.
    """
    dtype = spec.dtype
    if dtype.kind != "f":
        value, dtype = nodes.op("Cast", [value], to=TensorProto.FLOAT), np.dtype("<f4")
    width = math.prod(spec.shape)
    if len(spec.shape) != 1:
        value = nodes.op("Reshape", [value, nodes.shape(*[0] * lead, width)])
    zeros = nodes.constant(f"zeros_{dtype.name}_{width}", np.zeros((width, 1), dtype))
    mark = nodes.op("MatMul", [value, zeros])
    return mark if dtype == np.float32 else nodes.op("Cast", [mark], to=TensorProto.FLOAT)


def _declare_pools(graph: onnx.GraphProto, spec: ModelSpec, rows: int) -> None:
    """Put pools in the place of states, among the graph's inputs and outputs."""
    states = {state.name for state in spec.states}
    answers = {output.name for output in spec.outputs}
    inputs = [value for value in graph.input if value.name not in states]
    outputs = [value for value in graph.output if value.name in answers]
    inputs.append(helper.make_tensor_value_info(SLOTS, TensorProto.INT64, ["B"]))
    if spec.ragged:
        inputs.append(helper.make_tensor_value_info(WITHIN, TensorProto.BOOL, ["T", "B", 1]))
    outputs.append(helper.make_tensor_value_info(BAD, TensorProto.BOOL, ["B", 1]))
    for state in spec.states:
        kind, shape = helper.np_dtype_to_tensor_dtype(state.dtype), [rows, *state.shape]
        inputs.append(helper.make_tensor_value_info(pool_input(state), kind, shape))
        outputs.append(helper.make_tensor_value_info(pool_output(state), kind, shape))
    del graph.input[:], graph.output[:]
    graph.input.extend(inputs)
    graph.output.extend(outputs)
