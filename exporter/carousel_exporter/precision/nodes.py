"""A place to put new nodes and constants of a graph that is being rewritten, under fresh names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from carousel_exporter.adoption.graphs import all_names, fresh


class Names:
    """The names of a model, and the constants that are to be added to its outermost graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken = all_names(graph)
        self.constants: list[onnx.TensorProto] = []

    def fresh(self, wanted: str) -> str:
        """Return a name that nothing else in the model has."""
        return fresh(wanted, self._taken)

    def constant(self, wanted: str, value: np.ndarray | np.generic) -> str:
        """Add a constant that every graph of the model may read; return its name."""
        name = self.fresh(wanted)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


class Nodes:
    """Nodes of one graph or body, in order; `prefix` says in their names what they belong to."""

    def __init__(self, names: Names, prefix: str) -> None:
        self.names = names
        self.prefix = prefix
        self.list: list[onnx.NodeProto] = []

    def op(
        self,
        kind: str,
        inputs: Sequence[str],
        output: str = "",
        *,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Add an operator with one output; return its name, which is `output` or a fresh one."""
        (name,) = self.ops(kind, inputs, [output or kind], domain=domain, **attributes)
        return name

    def ops(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Add an operator with several outputs; fresh names are made of those given."""
        found = [self.fresh(name) for name in outputs]
        self.list.append(
            helper.make_node(kind, list(inputs), found, name=found[0], domain=domain, **attributes)
        )
        return found

    def named(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **more: Any) -> None:
        """Add an operator whose outputs have the very names given."""
        name = self.fresh(kind)
        self.list.append(helper.make_node(kind, list(inputs), list(outputs), name=name, **more))

    def fresh(self, wanted: str) -> str:
        """Return a fresh name that begins with the prefix."""
        return self.names.fresh(f"{self.prefix}.{wanted}")

    def constant(self, wanted: str, value: np.ndarray | np.generic) -> str:
        """Add a constant to the outermost graph; return its name."""
        return self.names.constant(f"{self.prefix}.{wanted}", value)
