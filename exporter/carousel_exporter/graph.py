"""Building blocks of ONNX graphs: a builder that names things, and differences of a series.

Operators are described at https://onnx.ai/onnx/operators/. Every array is time-major.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

#: Everything here is in opset 17, and a newer one would only lose kernels on CUDA: releases of ONNX
#: Runtime before microsoft/onnxruntime#26075 (late 2025) don't know the Squeeze, Unsqueeze and
#: Reshape of opset 21, and the LSTM of opset 22 had none when we looked; such a node silently runs
#: on the CPU. IR version 8 is that of its time, and every runtime we support reads it.
OPSET: Final = 17
IR_VERSION: Final = 8
#: Names of the two axes that differ from run to run.
TIME: Final = "T"
BATCH: Final = "B"

Dims = Sequence[int | str]


class GraphBuilder:
    """Collects nodes and constants. Names of values are given back, and passed on."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dims: Dims, *, dtype: int = TensorProto.FLOAT) -> str:
        """Declare an input of the graph."""
        self._inputs.append(value_info(name, dims, dtype=dtype))
        return name

    def output(self, name: str, dims: Dims, *, dtype: int = TensorProto.FLOAT) -> str:
        """Declare an output of the graph."""
        self._outputs.append(value_info(name, dims, dtype=dtype))
        return name

    def constant(self, name: str, value: ArrayLike, dtype: Any = np.float32) -> str:
        """Add a constant, cast to `dtype`."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operator with one output, which is also the node's name."""
        self.nodes(operator, inputs, [output], name=output, **attributes)
        return output

    def nodes(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        name: str,
        **attributes: Any,
    ) -> None:
        """Add an operator with several outputs."""
        self._nodes.append(
            helper.make_node(operator, list(inputs), list(outputs), name=name, **attributes)
        )

    def has(self, name: str) -> bool:
        """Tell whether an input, a constant, or a node (and so its one output) has this name."""
        named: list[Any] = [*self._inputs, *self._constants, *self._nodes]
        return any(each.name == name for each in named)

    def axis(self, axis: int) -> str:
        """Return the constant that names an axis; there is one for all nodes."""
        name = f"axis{axis}"
        return name if self.has(name) else self.constant(name, [axis], np.int64)

    def differences(
        self, x: str, lengths: str, features: int, states: tuple[str, str], new: tuple[str, str]
    ) -> str:
        """Add the change of x from step to step, (T, B, F); a session's first step has none: 0.

        `states` are the previous input (B, F) and whether there was one (B, 1), 0 or 1; `new` the
        names of both after the run. The new previous input is that of each row's last valid step;
        it is picked with GatherElements, because GatherND can't be replayed in a CUDA graph.
        """
        previous, seen = states
        zero, one, minus_one = (
            self.constant(f"changes.{name}", [value], np.int64)
            for name, value in (("zero", 0), ("one", 1), ("minus_one", -1))
        )
        first = self.node("Slice", [x, zero, one, zero], "changes.first")  # (1, B, F)
        had = self.node(
            "Greater", [seen, self.constant("changes.none", 0.0)], "changes.had"
        )  # (B, 1)
        before = self.node("Where", [had, previous, first], "changes.before")  # (1, B, F)
        longer = self.node("Concat", [before, x], "changes.longer", axis=0)  # (T + 1, B, F)
        shifted = self.node("Slice", [longer, zero, minus_one, zero], "changes.shifted")
        last = self.node(
            "Sub", [lengths, self.constant("changes.step", 1, np.int32)], "changes.last"
        )  # (B,)
        shape = self.constant("changes.column", [1, -1, 1], np.int64)
        column = self.node("Reshape", [last, shape], "changes.last_column")  # (1, B, 1)
        wide = self.constant("changes.width", [1, 1, features], np.int64)
        index = self.node("Expand", [column, wide], "changes.index")  # (1, B, F)
        kept = self.node("GatherElements", [x, index], "changes.kept", axis=0)  # (1, B, F)
        self.node("Squeeze", [kept, self.axis(0)], new[0])  # (B, F)
        self.node("Max", [seen, self.constant("changes.some", 1.0)], new[1])  # (B, 1)
        return self.node("Sub", [x, shifted], "changes")

    def model(self, name: str, producer: tuple[str, str]) -> onnx.ModelProto:
        """Return the model, checked by `onnx.checker`; `producer` is a name and a version."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=self._constants
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=producer[0],
            producer_version=producer[1],
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def value_info(name: str, dims: Dims, *, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """Describe an input or output of a graph."""
    return helper.make_tensor_value_info(name, dtype, list(dims))
