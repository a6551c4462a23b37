"""Models on which a careless pool graph writes a state too early, or at all."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.support.models import SEQUENCE, model, state, tensor


def _node(kind: str, inputs: str, output: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def context() -> onnx.ModelProto:
    """y = c, c becomes x: the new state does not wait for the old one to be read."""
    return model(
        [_node("Identity", "x", "c_out"), _node("Identity", "c", "y")],
        inputs=[tensor("x", 2)],
        outputs=[tensor("y", 2)],
        states=[state("c", 2)],
    )


def delay_line(*, swapped: bool) -> onnx.ModelProto:
    """y = s2, s2 becomes s1, s1 becomes x; declared in either order."""
    states = [state("s1", 2), state("s2", 2)]
    return model(
        [
            _node("Identity", "x", "s1_out"),
            _node("Identity", "s1", "s2_out"),
            _node("Identity", "s2", "y"),
        ],
        inputs=[tensor("x", 2)],
        outputs=[tensor("y", 2)],
        states=states[::-1] if swapped else states,
    )


def raises_late(*, through: str) -> onnx.ModelProto:
    """Sums in `a` and `b`, and an index beyond 3 raises: through state `b`, or output `y`."""
    late, plain = ("b", "y") if through == "state" else ("y", "b")
    ends = {"b": "b_out", "y": "y"}
    return model(
        [
            _node("Add", "x a", "a_out"),
            _node("Add", "x b", "sum"),
            _node("Cast", "x", "index", to=TensorProto.INT64),
            _node("Gather", "zeros index", "zero", axis=0),
            _node("Identity", "sum", ends[plain]),
            _node("Add", "sum zero", ends[late]),
        ],
        inputs=[tensor("x", 2)],
        outputs=[tensor("y", 2)],
        states=[state("a", 2), state("b", 2)],
        constants={"zeros": np.zeros(4, np.float32)},
    )


def two_sums() -> onnx.ModelProto:
    """Sums in `a` and `b`; y is what came."""
    return model(
        [_node("Add", "x a", "a_out"), _node("Add", "x b", "b_out"), _node("Identity", "x", "y")],
        inputs=[tensor("x", 2)],
        outputs=[tensor("y", 2)],
        states=[state("a", 2), state("b", 2)],
    )


def overflowing(*, in_state: bool) -> onnx.ModelProto:
    """A sum over time in sequence form; y = s 1e30 x overflows, and the state with it or not."""
    return model(
        [
            _node("CumSum", "x zero", "summed", exclusive=0),
            _node("Add", "summed s", "sums"),
            _node("Mul", "sums factor", "big"),
            _node("Identity", "big", "y"),
            # The state is the sum at the row's own last step.
            _node("Shape", "x", "dims"),
            _node("Cast", "lengths", "lengths64", to=TensorProto.INT64),
            _node("Sub", "lengths64 one", "last"),
            _node("Transpose", "big" if in_state else "sums", "by_row", perm=[1, 0, 2]),
            _node("Unsqueeze", "last axis1", "last2"),
            helper.make_node("GatherND", ["by_row", "last2"], ["s_out"], batch_dims=1),
        ],
        inputs=[tensor("x", 2)],
        outputs=[tensor("y", 2)],
        states=[state("s", 2)],
        form=SEQUENCE,
        sequence_lens="lengths",
        constants={
            "zero": np.array(0),
            "one": np.array(1),
            "axis1": np.array([1]),
            "factor": np.float32(1e30),
        },
    )


def batchless(*, form: int) -> onnx.ModelProto:
    """A running sum whose output is that of the first row alone, whatever is declared."""
    kept, axis = ("x", "axis1") if form == SEQUENCE else ("x", "axis0")
    nodes = [
        helper.make_node("Slice", [kept, "begin", "end", axis], ["y"]),
        helper.make_node("ReduceSum", ["x", "axis0"], ["total"], keepdims=0)
        if form == SEQUENCE
        else helper.make_node("Identity", ["x"], ["total"]),
        helper.make_node("Add", ["total", "s"], ["s_out"]),
    ]
    return model(
        nodes,
        inputs=[tensor("x", 2)],
        outputs=[tensor("y", 2)],
        states=[state("s", 2)],
        form=form,
        constants={
            "begin": np.array([0]),
            "end": np.array([1]),
            "axis0": np.array([0]),
            "axis1": np.array([1]),
        },
    )
