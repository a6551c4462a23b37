"""Bringing constants to where they can be rewritten: among a graph's initializers."""

from __future__ import annotations

import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from carousel_exporter.adoption.evidence import MOVES
from carousel_exporter.adoption.graphs import constants_of, remove_unused


def gather_constants(model: onnx.ModelProto) -> None:
    """Turn Constant nodes, and constants that are only moved about, into initializers, in place.

    Other exporters write an LSTM's weights as a Concat of slices of PyTorch's, say.
    """
    graph = model.graph
    known = constants_of(graph)
    old = {tensor.name for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        read = [name for name in node.input if name]
        if node.op_type == "Constant" and node.output[0] in known:
            continue
        if node.op_type not in MOVES or not read or not set(read) <= set(known):
            nodes.append(node)
            continue
        evaluator = ReferenceEvaluator(
            node, opsets={o.domain: o.version for o in model.opset_import}
        )
        values = evaluator.run(None, {name: known[name] for name in read})
        known |= {n: v for n, v in zip(node.output, values, strict=False) if n}
    outputs = {value.name for value in graph.output}
    if outputs & set(known) - old:  # an answer that never changes: leave such a graph alone
        return
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in known.items() if name not in old
    )
    remove_unused(model)
