"""Branches and loops that values decide: all rows of a run take the same way through them.

With such a node no numbers prove that rows may share a run: the value that sends all of them
another way may never have been drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import onnx

from carousel_exporter.adoption.graphs import names_used, producers_of, subgraphs

#: Operators that tell a shape, whatever the values are.
SHAPES: Final = frozenset({"Shape", "Size"})
#: Operators whose output's shape depends on values.
LOOSE: Final = frozenset({"NonZero", "Unique", "Compress", "NonMaxSuppression", "Loop"})
#: Inputs of a loop's body that count its turns, and say whether to go on.
_COUNTERS: Final = 2


@dataclass(frozen=True)
class _Scope:
    """A graph, those around it, and for the inputs of bodies what they are computed from.

    `deciding` are values in it that say whether the loop whose body it is goes on.
    """

    graph: onnx.GraphProto
    outer: tuple[onnx.GraphProto, ...] = ()
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    deciding: tuple[str, ...] = ()


def decided_by_values(graph: onnx.GraphProto, free: Sequence[str] = ()) -> str:
    """Say which branch or loop values of the inputs decide, in a few words; "" if none.

    Inputs that are `free` to decide, such as the rows' lengths, don't count.
    """
    told = {value.name for value in graph.input} - {t.name for t in graph.initializer} - {*free}
    for scope in _scopes(graph):
        for kind, name in _deciding(scope):
            if _from_values(name, scope, told):
                return f"{kind} {name!r}"
    return ""


def _deciding(scope: _Scope) -> Iterator[tuple[str, str]]:
    """Yield the values that say which way a branch goes, or how often a loop turns."""
    yield from (("the end of a Loop", name) for name in scope.deciding)
    for node in scope.graph.node:
        if node.op_type == "If":
            yield "the branch of an If", node.input[0]
        elif node.op_type == "Loop":
            yield from (("the end of a Loop", name) for name in node.input[:_COUNTERS] if name)


def _scopes(graph: onnx.GraphProto) -> Iterator[_Scope]:
    """Yield a graph, and every branch and body in it with all that it can see."""
    pending = [_Scope(graph)]
    while pending:
        scope = pending.pop()
        yield scope
        for node in scope.graph.node:
            for inner in subgraphs(node):
                sources = scope.sources | _sources(node, inner)
                ends = (inner.output[0].name,) if node.op_type == "Loop" else ()
                pending.append(_Scope(inner, (scope.graph, *scope.outer), sources, ends))


def _sources(node: onnx.NodeProto, body: onnx.GraphProto) -> dict[str, tuple[str, ...]]:
    """Return what the inputs of a body are: what went into the loop, and what a turn gave."""
    inputs = [value.name for value in body.input]
    given = [value.name for value in body.output]
    if node.op_type == "Loop":
        began = dict(zip(inputs[_COUNTERS:], node.input[_COUNTERS:], strict=False))
        carried = dict(zip(inputs[_COUNTERS:], given[1:], strict=False))
    else:
        began = dict(zip(inputs, node.input, strict=False))
        scanned = next((a.i for a in node.attribute if a.name == "num_scan_inputs"), 0)
        carried = dict(zip(inputs[: len(inputs) - scanned], given, strict=False))
    return {
        name: tuple(n for n in (began.get(name), carried.get(name)) if n)
        for name in inputs
        if name in began
    }


def _from_values(name: str, scope: _Scope, told: set[str]) -> bool:
    """Tell whether a value comes from values of the inputs, and not from their shapes alone."""
    producers: dict[str, onnx.NodeProto] = {}
    for graph in (scope.graph, *scope.outer):
        producers = producers_of(graph) | producers
    pending, seen = [(name, False)], set()
    while pending:
        value, only_shape = pending.pop()
        if (value, only_shape) in seen:
            continue
        seen.add((value, only_shape))
        pending.extend((source, only_shape) for source in scope.sources.get(value, ()))
        node = producers.get(value)
        if node is None:
            if value in told and not only_shape:
                return True
            continue
        if node.op_type in LOOSE and only_shape:
            return True
        inside = only_shape or node.op_type in SHAPES
        pending.extend((used, inside) for used in names_used(node))
    return False
