"""Letting rows of different lengths share a run: lengths for layers that can take them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import onnx
from onnx import TensorProto, helper

from carousel_exporter.adoption.canonical import Canonical
from carousel_exporter.adoption.evidence import RECURRENT
from carousel_exporter.adoption.graphs import all_names, fresh
from carousel_exporter.graph import BATCH

_NAME: Final = "sequence_lens"
#: Operators that loop over time in a way that lengths can't stop.
_LOOPS: Final = frozenset({"Loop", "Scan"})


def with_lengths(canonical: Canonical) -> Canonical | None:
    """Return a form whose recurrent layers all take lengths; None where that can't be.

    States that are taken off the last step of a layer's outputs will be wrong: prove the result.
    """
    if not canonical.time or canonical.lengths:
        return None
    model = onnx.ModelProto()
    model.CopyFrom(canonical.model)
    graph = model.graph
    layers = [node for node in graph.node if node.op_type in RECURRENT]
    if not layers or any(node.op_type in _LOOPS for node in graph.node):
        return None
    name = fresh(_NAME, all_names(graph))
    for layer in layers:
        if len(layer.input) > 4 and layer.input[4]:
            return None
        layer.input.extend([""] * (5 - len(layer.input)))
        layer.input[4] = name
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT32, [BATCH]))
    return replace(canonical, model=model, lengths=name)
