"""Graphs that draw random numbers: their answers are never the same twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx

from carousel_exporter.adoption import proof
from carousel_exporter.adoption.graphs import all_nodes
from carousel_exporter.adoption.trials import Arrays, Trial
from carousel_exporter.errors import ModelFileError

#: Operators that draw random numbers.
DRAWING: Final = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial"}
    | {"Bernoulli"}
)
#: Operators that draw when they are told that the network is in training.
_TRAINING: Final = frozenset({"Dropout"})


def refuse_chance(trial: Trial, graph: onnx.GraphProto, feeds: Sequence[Arrays]) -> None:
    """Refuse a graph that answers the same inputs in two ways. Raises ModelFileError, TrialError.

    One that draws numbers and multiplies them by 0 is as good as any.
    """
    for feed in feeds:
        first, second = trial.run(feed), trial.run(feed)
        if all(np.array_equal(first[n], second[n], equal_nan=True) for n in first):
            continue
        found = proof.worst(first, second)
        if found.excess > 1:
            raise ModelFileError(
                f"The same inputs, run twice, give two values of {found.tensor!r}, "
                f"{found.value:.1e} apart{_who_draws(graph)}: export the model for inference, "
                "without noise and dropout."
            )


def _who_draws(graph: onnx.GraphProto) -> str:
    for operators in (DRAWING, _TRAINING):
        for node in all_nodes(graph):
            if node.op_type in operators:
                name = node.name or node.output[0]
                return f", because {node.op_type} {name!r} draws random numbers"
    return ""
