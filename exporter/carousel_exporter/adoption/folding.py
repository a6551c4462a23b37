"""Taking branches that are always taken, and computing once what is always the same.

A branch (`If`) is decided where its condition comes from constants and shapes alone, and has the
same value on every trial run. What follows is proved by numbers on the whole graph, like the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import onnx
from onnx import numpy_helper

from carousel_exporter.adoption.chance import DRAWING
from carousel_exporter.adoption.control import LOOSE, SHAPES
from carousel_exporter.adoption.graphs import (
    all_names,
    fresh,
    name_nodes_apart,
    names_used,
    own_outputs,
    producers_of,
    remove_identities,
    remove_unused,
    rename_uses,
    subgraphs,
)
from carousel_exporter.adoption.trials import Arrays, Trial, TrialError, exposing
from carousel_exporter.errors import ModelFileError

#: What may not be computed once: it is drawn anew each time, or would make the file larger.
_KEPT: Final = DRAWING | {"DequantizeLinear"}
#: Results of constants may be so many times as large as what they are computed from, or so small.
_GROWTH: Final = 4
_SMALL_BYTES: Final = 1 << 16


def fold(model: onnx.ModelProto, feeds: Sequence[Arrays]) -> onnx.ModelProto:
    """Return a copy without the branches that the trial runs decide, and with constants computed.

    `feeds` are inputs of the runs, of different numbers of rows and steps.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    while _inline_decided(result, feeds):
        pass
    remove_unused(result)
    _compute_constants(result)
    remove_identities(result.graph)
    own_outputs(result)
    remove_unused(result)
    return result


def _inline_decided(model: onnx.ModelProto, feeds: Sequence[Arrays]) -> bool:
    """Inline branches that are decided; tell whether there were any."""
    graph = model.graph
    branches = [n for n in graph.node if n.op_type == "If" and _depends_on_shapes(graph, n)]
    if not branches:
        return False
    decisions = _decisions(model, [node.input[0] for node in branches], feeds)
    decided = [node for node in branches if node.input[0] in decisions]
    for node in decided:
        wanted = "then_branch" if decisions[node.input[0]] else "else_branch"
        _inline(graph, node, next(a.g for a in node.attribute if a.name == wanted))
    return bool(decided)


def _decisions(
    model: onnx.ModelProto, conditions: Sequence[str], feeds: Sequence[Arrays]
) -> dict[str, bool]:
    """Return the conditions that had one value on all runs."""
    names = list(dict.fromkeys(conditions))
    try:
        trial = Trial(exposing(model, names))
        runs = [trial.run(feed) for feed in feeds]
    except (TrialError, ModelFileError):
        return {}
    seen = {name: {bool(run[name].reshape(())) for run in runs} for name in names}
    return {name: values.pop() for name, values in seen.items() if len(values) == 1}


def _depends_on_shapes(graph: onnx.GraphProto, branch: onnx.NodeProto) -> bool:
    """Tell whether a condition comes from constants and shapes alone."""
    producers = producers_of(graph)
    inputs = {value.name for value in graph.input} - {t.name for t in graph.initializer}
    pending, seen = [(branch.input[0], False)], set()
    while pending:
        name, only_shape = pending.pop()
        if (name, only_shape) in seen:
            continue
        seen.add((name, only_shape))
        node = producers.get(name)
        if node is None:
            if name in inputs and not only_shape:
                return False
            continue
        if node.op_type in LOOSE and only_shape:
            return False
        inside = only_shape or node.op_type in SHAPES
        pending.extend((used, inside) for used in names_used(node))
    return True


def _inline(graph: onnx.GraphProto, node: onnx.NodeProto, branch: onnx.GraphProto) -> None:
    """Put a branch in the place of its node."""
    place = next(k for k, other in enumerate(graph.node) if other is node or other == node)
    branch = onnx.GraphProto.FromString(branch.SerializeToString())
    outputs = list(node.output)
    del graph.node[place]
    taken = all_names(graph)
    own = [name for inner in branch.node for name in inner.output if name]
    own += [tensor.name for tensor in branch.initializer]
    new_names = {name: fresh(name, taken) for name in own}
    rename_uses(branch.node, new_names)
    for inner in branch.node:
        renamed = [new_names.get(name, name) for name in inner.output]
        del inner.output[:]
        inner.output.extend(renamed)
    for tensor in branch.initializer:
        tensor.name = new_names[tensor.name]
    ends = [new_names.get(value.name, value.name) for value in branch.output]
    nodes = list(branch.node)
    nodes += [
        onnx.helper.make_node("Identity", [end], [output])
        for end, output in zip(ends, outputs, strict=True)
        if output
    ]
    for offset, inner in enumerate(nodes):
        graph.node.insert(place + offset, inner)
    graph.initializer.extend(branch.initializer)
    name_nodes_apart(graph)


def _compute_constants(model: onnx.ModelProto) -> None:
    """Replace nodes that only see constants by what they give."""
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    sources = []
    for node in graph.node:
        computable = node.domain in {"", "ai.onnx"} and node.op_type not in _KEPT
        if computable and not any(subgraphs(node)) and names_used(node) <= known:
            sources.append(node)
            known.update(name for name in node.output if name)
    inner = {id(node) for node in sources}
    wanted = {value.name for value in graph.output}
    wanted = wanted.union(*(names_used(n) for n in graph.node if id(n) not in inner))
    made = [name for node in sources for name in node.output if name in wanted]
    if not made:
        return
    values = _evaluate(model, sources, made)
    graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in values)
    kept = [node for node in graph.node if not set(node.output) & set(values)]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(kept)


def _evaluate(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], wanted: Sequence[str]
) -> Arrays:
    """Return the values of constants by name; those that are too large are left out."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.input[:]
    part.graph.node.extend(nodes)
    try:
        found = Trial(exposing(part, wanted)).run({})
    except (TrialError, ModelFileError):
        return {}
    sizes = {tensor.name: tensor.ByteSize() for tensor in model.graph.initializer}
    most = max(_SMALL_BYTES, _GROWTH * sum(sizes.values()))
    small = {name: array for name, array in found.items() if array.nbytes <= most}
    whole = [n for n in nodes if all(not o or o in small or o not in wanted for o in n.output)]
    return {name: small[name] for node in whole for name in node.output if name in small}
