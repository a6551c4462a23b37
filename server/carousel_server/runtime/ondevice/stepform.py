"""The step form of a model that loops over time: the same graph for exactly one step a run.

A captured graph has no lengths in it (CUDA's LSTM reads `sequence_lens` on the host), and a run of
one step needs none: every row is one step long. So the input goes; the recurrent operators, which
take "all steps" for a missing one, lose it, and whatever else reads it gets ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from carousel_server.runtime import poolgraph
from carousel_server.spec import ModelSpec

#: The operators that ONNX has for recurrent layers; `sequence_lens` is their input 4.
RECURRENT = ("LSTM", "GRU", "RNN")
_LENGTHS = 4

#: What a captured graph can't have in it: which nodes run is only known when it runs.
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})


@dataclass(frozen=True, slots=True)
class StepForm:
    """A graph of one step a run, and the spec that it has."""

    graph: onnx.ModelProto
    spec: ModelSpec


def step_form(model: onnx.ModelProto, spec: ModelSpec) -> StepForm:
    """Return the model for runs of one step; inputs and outputs keep their axes.

    With a time axis that is 1: inputs are `[1, B, ...]`. `sequence_lens` is no input any more.
    """
    if not spec.time_axis:
        return StepForm(model, spec)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    timed = {tensor.name for tensor in (*spec.inputs, *spec.outputs)}
    for value in (*graph.input, *graph.output):
        if value.name in timed and value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.dim[0].dim_value = 1
    # What was inferred for any number of steps may not hold for one.
    del graph.value_info[:]
    if spec.sequence_lens:
        _remove_lengths(graph, spec)
    return StepForm(made, replace(spec, sequence_lens=""))


def control_flow(model: onnx.ModelProto) -> list[str]:
    """Return the operators of the graph's nodes that decide at run time what runs, sorted."""
    return sorted({node.op_type for node in model.graph.node} & CONTROL_FLOW)


def _remove_lengths(graph: onnx.GraphProto, spec: ModelSpec) -> None:
    lengths = spec.sequence_lens
    kept = [value for value in graph.input if value.name != lengths]
    del graph.input[:]
    graph.input.extend(kept)
    for node in graph.node:
        if node.op_type in RECURRENT and len(node.input) > _LENGTHS:
            node.input[_LENGTHS] = "" if node.input[_LENGTHS] == lengths else node.input[_LENGTHS]
    if lengths not in set(_read(graph)):
        return
    prefix = f"{poolgraph.PREFIX}lengths"
    ones = [
        helper.make_node("Shape", [spec.inputs[0].name], [f"{prefix}/shape"], name=f"{prefix}/0"),
        helper.make_node(
            "Gather",
            [f"{prefix}/shape", f"{prefix}/axis"],
            [f"{prefix}/rows"],
            name=f"{prefix}/1",
            axis=0,
        ),
        helper.make_node(
            "Expand", [f"{prefix}/one", f"{prefix}/rows"], [lengths], name=f"{prefix}/2"
        ),
    ]
    nodes = [*ones, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([1], np.int64), f"{prefix}/axis"),
            numpy_helper.from_array(np.array(1, np.int32), f"{prefix}/one"),
        ]
    )


def _read(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names that nodes read, those inside of other nodes' graphs too."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _read(attribute.g)
