"""Whether recurrent operators go on where they stopped, when a graph of one step is driven by hand.

A graph that takes one step a run has no longer run to be compared with, but its LSTM, GRU and RNN
operators do: an operator alone can run over all the inputs that it saw, one after the other. With
the right states fed back, its last state is the same; with any others it isn't.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx

from carousel_exporter.adoption.evidence import RECURRENT, moved_from
from carousel_exporter.adoption.machine import Machine, Wiring
from carousel_exporter.adoption.trials import Arrays, Trial, exposing
from carousel_exporter.equality import Difference, difference

#: Places of X, and of the initial h and c, among an operator's inputs.
_X: Final = 0
_FIRST_STATES: Final = (5, 6)


@dataclass(frozen=True)
class _Layer:
    node: onnx.NodeProto

    @property
    def inputs(self) -> list[str]:
        return [name for name in self.node.input if name]

    @property
    def ends(self) -> list[str]:
        """The last h and c that are put out."""
        return [name for name in self.node.output[1:3] if name]

    @property
    def time_axis(self) -> int:
        return next((int(a.i) for a in self.node.attribute if a.name == "layout"), 0)

    def over(self, seen: Sequence[Arrays], model: onnx.ModelProto) -> Arrays:
        """Run the operator alone over the inputs of all runs, from the first run's state."""
        feeds = {name: seen[0][name] for name in self.inputs}
        x = self.node.input[_X]
        feeds[x] = np.concatenate([run[x] for run in seen], axis=self.time_axis)
        graph = onnx.helper.make_graph(
            [self.node],
            "alone",
            [_declared(name, array) for name, array in feeds.items()],
            [onnx.ValueInfoProto(name=name) for name in self.ends],
        )
        alone = onnx.helper.make_model(
            graph, opset_imports=model.opset_import, ir_version=model.ir_version
        )
        return Trial(alone).run(feeds)


def continuity(
    model: onnx.ModelProto, wiring: Wiring, chunk: Arrays, states: Arrays
) -> Difference | None:
    """Drive a graph by hand over a chunk (T, B, …), and return how far its operators were off.

    None where no operator begins with a state of the graph. Raises TrialError.
    """
    layers = _carried(model.graph, wiring.states)
    if not layers:
        return None
    wanted = {name for layer in layers for name in (*layer.inputs, *layer.ends)}
    recorder = _Recorder(model, wanted)
    machine = Machine(recorder, wiring)
    machine.advance(chunk, states)
    found = []
    for layer in layers:
        alone = layer.over(recorder.seen, model)
        last = recorder.seen[-1]
        found += [difference(name, alone[name], last[name], 1.0) for name in layer.ends]
    return max(found, key=lambda d: d.excess, default=None)


class _Recorder(Trial):
    """A graph that keeps inner values of all its runs."""

    def __init__(self, model: onnx.ModelProto, wanted: set[str]) -> None:
        own = [value.name for value in model.graph.output]
        super().__init__(exposing(model, [*own, *sorted(wanted - set(own))]))
        self.seen: list[Arrays] = []

    def run(self, feeds: Mapping[str, np.ndarray], wanted: Sequence[str] | None = None) -> Arrays:
        found = super().run(feeds, wanted)
        self.seen.append(found)
        return found


def _carried(graph: onnx.GraphProto, states: Mapping[str, object]) -> list[_Layer]:
    """Return the forward layers without lengths that begin with states of the graph as they are."""
    reached = set().union(*(moved_from(graph, name) for name in states))
    layers = []
    for node in graph.node:
        if node.op_type not in RECURRENT or (len(node.input) > 4 and node.input[4]):
            continue
        first = [node.input[place] for place in _FIRST_STATES if place < len(node.input)]
        forward = all(a.s == b"forward" for a in node.attribute if a.name == "direction")
        if forward and set(first) & reached:
            layers.append(_Layer(node))
    return [layer for layer in layers if layer.ends]


def _declared(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
    code = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, code, array.shape)
