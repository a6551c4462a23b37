"""Refusing what can't be streamed: layers that run backwards, answers that need later inputs."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from carousel_exporter.adoption import evidence, proof
from carousel_exporter.adoption.bounds import Values
from carousel_exporter.adoption.choosing import NotProved
from carousel_exporter.adoption.machine import Machine
from carousel_exporter.errors import ModelFileError


def refuse_reverse(graph: onnx.GraphProto, names: Iterable[str]) -> None:
    """Refuse a layer that runs backwards and begins with an input: its state is the future's.

    One over frequencies, say, within a step, begins with nothing of the graph's.
    """
    taken = {node for name in names for node, _ in evidence.roles_taken(graph, name)}
    for label, node in evidence.reverse_layers(graph):
        if label in taken:
            raise ModelFileError(_reverse(node))


def refuse_foresight(
    machine: Machine, graph: onnx.GraphProto, dtypes: proof.Dtypes, values: Values
) -> None:
    """Refuse answers that change when only later inputs do. Raises NotProved, TrialError."""
    chunk = proof.draw_chunk(machine.wiring, dtypes, values, rows=1, steps=proof.STEPS)
    found = proof.foresight(machine, chunk, {}, values)
    if found is None or found.excess <= 1:
        return
    reverse = evidence.reverse_layers(graph)
    if reverse:
        raise NotProved(_reverse(reverse[0][1]))
    raise NotProved(
        f"Output {found.tensor!r} at one step changes by {found.value:.1e} when only inputs of "
        "later steps do, so it can't be streamed: export the model without what looks ahead."
    )


def _reverse(node: onnx.NodeProto) -> str:
    direction = next(a.s.decode() for a in node.attribute if a.name == "direction")
    return (
        f"The {direction} {node.op_type} layer {(node.name or node.output[0])!r} runs backwards in "
        "time, so its answers need inputs that have not come yet, and it can't be streamed: train "
        "or export the model with layers that run forwards."
    )
