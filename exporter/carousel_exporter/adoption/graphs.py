"""What surgery on ONNX graphs needs: walking, naming, renaming, cleaning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the branches or the body that a node holds."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield every node, those inside of branches and loops too."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def count_nodes(model: onnx.ModelProto, operator: str = "") -> int:
    """Count nodes, those inside of branches and loops too; all, or those of one operator."""
    return sum(not operator or node.op_type == operator for node in all_nodes(model.graph))


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operator set that a model uses."""
    return max((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=0)


def names_used(node: onnx.NodeProto) -> set[str]:
    """Return the names of values that a node reads, those that its branches capture too."""
    used = {name for name in node.input if name}
    for inner in subgraphs(node):
        used |= captured(inner)
    return used


def captured(graph: onnx.GraphProto) -> set[str]:
    """Return the names that a branch takes from outside of itself."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    used: set[str] = {value.name for value in graph.output}
    for node in graph.node:
        used |= names_used(node)
        own |= set(node.output)
    return used - own


def all_names(graph: onnx.GraphProto) -> set[str]:
    """Return every name of a value in a graph and its branches."""
    names = {value.name for value in (*graph.input, *graph.output)}
    names |= {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        names |= {*node.input, *node.output}
        for inner in subgraphs(node):
            names |= all_names(inner)
    return names


def fresh(wanted: str, taken: set[str]) -> str:
    """Return a name like `wanted` that is not taken, and take it."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name


def rename_uses(nodes: Iterable[onnx.NodeProto], new_names: Mapping[str, str]) -> None:
    """Let nodes, and what is inside of them, read other values; ONNX forbids shadowing."""
    for node in nodes:
        for place, name in enumerate(node.input):
            if name in new_names:
                node.input[place] = new_names[name]
        for inner in subgraphs(node):
            rename_uses(inner.node, new_names)
            for value in inner.output:
                value.name = new_names.get(value.name, value.name)


def constants_of(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Return the values of initializers and Constant nodes, by name."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            values[node.output[0]] = node.attribute[0].t
    return {name: numpy_helper.to_array(tensor) for name, tensor in values.items()}


def producers_of(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return the node that computes each value."""
    return {name: node for node in graph.node for name in node.output if name}


def name_nodes_apart(graph: onnx.GraphProto) -> None:
    """Give nodes that have a name in common names of their own: ONNX Runtime insists."""
    taken: set[str] = set()
    for node in all_nodes(graph):
        if node.name:
            node.name = fresh(node.name, taken)


def remove_unused(model: onnx.ModelProto) -> None:
    """Take out nodes and initializers that no output needs, and notes on shapes."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= names_used(node)
            kept.append(node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    weights = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in weights]
    del graph.node[:], graph.initializer[:], graph.value_info[:], graph.quantization_annotation[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)


def own_outputs(model: onnx.ModelProto) -> None:
    """Let a node compute each output: one may be an input that is passed on, or a constant."""
    graph = model.graph
    computed = producers_of(graph)
    inputs = {value.name for value in graph.input}
    taken = all_names(graph)
    for value in graph.output:
        if value.name in computed:
            continue
        source = value.name
        if source in inputs:
            value.name = fresh(f"{source}_out", taken)
        else:
            source = fresh(f"{source}_value", taken)
            rename_uses(graph.node, {value.name: source})
            next(t for t in graph.initializer if t.name == value.name).name = source
        graph.node.append(onnx.helper.make_node("Identity", [source], [value.name]))


def reachable(graph: onnx.GraphProto, names: Iterable[str]) -> set[str]:
    """Return all values that depend on some values, these included."""
    reached = set(names)
    for node in graph.node:
        if names_used(node) & reached:
            reached.update(node.output)
    return reached


def remove_identities(graph: onnx.GraphProto) -> None:
    """Let those who read a copy read what it is a copy of."""
    outputs = {value.name for value in graph.output}
    new_names: dict[str, str] = {}
    kept = []
    for node in graph.node:
        rename_uses([node], new_names)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            new_names[node.output[0]] = node.input[0]
        else:
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(kept)
    _merge_outputs(graph, outputs)


def _merge_outputs(graph: onnx.GraphProto, outputs: set[str]) -> None:
    """Let nodes give an output by its own name, where only a copy of it had that name."""
    for node in [n for n in graph.node if n.op_type == "Identity"]:
        source, output = node.input[0], node.output[0]
        producer = producers_of(graph).get(source)
        if producer is None or source in outputs:
            continue
        place = list(producer.output).index(source)
        graph.node.remove(node)
        producer.output[place] = output
        rename_uses(graph.node, {source: output})
