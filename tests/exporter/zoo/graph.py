"""Building a graph node by node in any opset from 11 on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str | None] | None


class Graph:
    """Nodes, constants and values; `node` names its output itself unless told."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._numbers = count()

    def input(self, name: str, dtype: np.dtype | str, dims: Dims) -> str:
        self.inputs.append(_info(name, dtype, dims))
        return name

    def output(self, value: str, name: str, dtype: np.dtype | str, dims: Dims) -> None:
        """Give a value out under a name."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(_info(name, dtype, dims))

    def constant(self, value, dtype: np.dtype | str = np.int64) -> str:
        name = f"constant{next(self._numbers)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes) -> str:
        return self.nodes_of(kind, *inputs, outputs=1, **attributes)[0]

    def nodes_of(self, kind: str, *inputs: str, outputs: int, **attributes) -> list[str]:
        names = [f"v{next(self._numbers)}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def squeeze(self, value: str, axes: Sequence[int]) -> str:
        return self._with_axes("Squeeze", value, axes)

    def unsqueeze(self, value: str, axes: Sequence[int]) -> str:
        return self._with_axes("Unsqueeze", value, axes)

    def slice(self, value: str, begin: int, end: int, axis: int) -> str:
        ends = [self.constant([number]) for number in (begin, end, axis)]
        return self.node("Slice", value, *ends)

    def pick(self, value: str, index: int, axis: int = 0) -> str:
        """Return one place along an axis, without the axis."""
        return self.node("Gather", value, self.constant(index), axis=axis)

    def stack(self, values: Sequence[str]) -> str:
        """Put values side by side along a new first axis."""
        return self.node("Concat", *(self.unsqueeze(value, [0]) for value in values), axis=0)

    def transpose(self, value: str, before: str, after: str) -> str:
        """Bring axes, a letter each, into another order."""
        if before == after:
            return value
        return self.node("Transpose", value, perm=[before.index(letter) for letter in after])

    def mean(self, value: str, axis: int) -> str:
        if self.opset < 18:
            return self.node("ReduceMean", value, axes=[axis], keepdims=1)
        return self.node("ReduceMean", value, self.constant([axis]), keepdims=1)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "zoo", self.inputs, self.outputs, self.constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=8 if self.opset < 19 else 10,
            producer_name="others",
        )
        onnx.checker.check_model(model)
        return model

    def _with_axes(self, kind: str, value: str, axes: Sequence[int]) -> str:
        if not axes:
            return value
        if self.opset < 13:  # an attribute until then, an input since
            return self.node(kind, value, axes=list(axes))
        return self.node(kind, value, self.constant(list(axes)))


def _info(name: str, dtype: np.dtype | str, dims: Dims) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    assert kind != TensorProto.UNDEFINED
    return helper.make_tensor_value_info(name, kind, dims)
