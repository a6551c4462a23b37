"""Which values an integer input may have, where the graph looks them up in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx

from carousel_exporter.adoption.graphs import constants_of

#: Operators through which an index goes unchanged.
_UNCHANGED: Final = frozenset(
    {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "Expand"}
)
#: Operators that keep a table's shape.
_SAME_SHAPE: Final = frozenset({"DequantizeLinear", "Cast", "Identity"})
#: What is tried where nothing is known.
UNKNOWN: Final = (0, 7)
#: Mean and scale of inputs that must be positive: those of a logarithm or a root, say.
POSITIVE: Final = (4.0, 0.5)

Usual = tuple[float, float]
"""Mean and scale of usual values."""


def index_bounds(graph: onnx.GraphProto, name: str) -> tuple[int, int] | None:
    """Return the least and greatest value of an input that is looked up in constant tables.

    None where it isn't looked up. Several tables: the smallest counts.
    """
    constants = constants_of(graph)
    tables = {table: array.shape for table, array in constants.items()}
    same, sizes = {name}, []
    for node in graph.node:
        first = node.input[0] if node.input else ""
        if node.op_type in _SAME_SHAPE and first in tables:
            tables[node.output[0]] = tables[first]
        if node.op_type in _UNCHANGED and first in same:
            same.update(node.output)
        elif node.op_type == "Gather" and node.input[1] in same and first in tables:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            sizes.append(tables[first][axis])
        elif node.op_type == "OneHot" and first in same and node.input[1] in constants:
            sizes.append(int(constants[node.input[1]].reshape(-1)[0]))
    return (0, min(sizes) - 1) if sizes else None


class Values:
    """Draws values for tensors, each in its own type; integers within their bounds.

    `usual` tells what floats are like, where they aren't standard normal.
    """

    def __init__(
        self, graph: onnx.GraphProto, seed: int, usual: Mapping[str, Usual] | None = None
    ) -> None:
        self.usual = dict(usual or {})
        self._graph = graph
        self._bounds: dict[str, tuple[int, int] | None] = {}
        self.rng = np.random.default_rng(seed)

    def anew(self, seed: int) -> Values:
        """Return one that draws from the beginning of a seed's numbers."""
        return Values(self._graph, seed, self.usual)

    def bounds(self, name: str) -> tuple[int, int] | None:
        """Return the bounds of an integer input, where the graph tells them."""
        if name not in self._bounds:
            self._bounds[name] = index_bounds(self._graph, name)
        return self._bounds[name]

    def draw(
        self, name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...], scale: float = 1.0
    ) -> np.ndarray:
        """Draw an array: floats normal, times the scale; integers and truth values evenly."""
        if dtype.kind == "f":
            return (scale * self.rng.normal(*self.usual.get(name, (0, 1)), shape)).astype(dtype)
        if dtype.kind == "b":
            return self.rng.integers(0, 2, shape).astype(dtype)
        low, high = self.bounds(name) or UNKNOWN
        return self.rng.integers(low, high, shape, endpoint=True).astype(dtype)
