"""Model files with one fault each, and hand-made ones in the other canonical form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from carousel.v1 import manifest_pb2, tensor_pb2
from carousel_exporter import manifest as manifests

Fault = Callable[[onnx.ModelProto], None]


def mutate(path: Path, fault: Fault) -> Path:
    """Write a copy of a model file with a fault beside it."""
    model = onnx.load(path)
    fault(model)
    onnx.checker.check_model(model, full_check=True)
    mutant = path.with_name("mutant.onnx")
    onnx.save(model, mutant)
    return mutant


def leak_rows(model: onnx.ModelProto) -> None:
    """Let each row see the mean over all rows, faintly."""
    lstm = _first(model, "LSTM")
    nodes = [
        helper.make_node("ReduceMean", [lstm.input[0]], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "faint"], ["faint_mean"]),
        helper.make_node("Add", [lstm.input[0], "faint_mean"], ["leaky"]),
    ]
    _insert_before(model, lstm, nodes)
    lstm.input[0] = "leaky"
    model.graph.initializer.append(numpy_helper.from_array(np.float32([1e-3]), "faint"))


def ignore_lengths(model: onnx.ModelProto) -> None:
    """Run padding as if it were input."""
    _first(model, "LSTM").input[4] = ""


def swap_states(model: onnx.ModelProto) -> None:
    """Hand back h as c and c as h."""
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            node.output[place] = {"h0_out": "c0_out", "c0_out": "h0_out"}.get(name, name)


def forget_state(model: onnx.ModelProto) -> None:
    """Begin each run from zeros."""
    lstm = _first(model, "LSTM")
    lstm.input[5] = lstm.input[6] = ""


def permute_gates(model: onnx.ModelProto) -> None:
    """Leave PyTorch's order of gates: i, f, g, o where ONNX has i, o, f, c."""
    for index in (1, 2):
        _change_constant(
            model,
            _first(model, "LSTM").input[index],
            lambda w: np.concatenate([np.split(w, 4, axis=1)[k] for k in (0, 2, 3, 1)], axis=1),
        )


def keep_last_padded(model: onnx.ModelProto) -> None:
    """Take as the previous input what stands at the run's last step, padding or not."""
    gather = _first(model, "GatherElements")
    nodes = [helper.make_node("Gather", ["x", "changes.minus_one"], ["last_of_all"], axis=0)]
    _insert_before(model, gather, nodes)
    squeeze = next(node for node in model.graph.node if node.output[0] == "previous_out")
    squeeze.input[0] = "last_of_all"


def spoil(model: onnx.ModelProto) -> None:
    """Answer something that is not a number."""
    _change_constant(model, "head.b", lambda w: np.full_like(w, np.nan))


def step_model(path: Path, *, leaky: bool = False, max_batch: int = 0) -> Path:
    """A model of one step a run: a token (int64, 3 to 6) added up in a state, and its table row."""
    nodes = [
        helper.make_node("Gather", ["table", "token"], ["row"], axis=0),
        helper.make_node("Tanh", ["row"], ["bounded"]),
        helper.make_node("Add", ["sum", "bounded"], ["sum_out"]),
    ]
    if leaky:
        nodes += [
            helper.make_node("ReduceMean", ["sum_out"], ["all"], axes=[0], keepdims=1),
            helper.make_node("Add", ["sum_out", "all"], ["y"]),
        ]
    else:
        nodes.append(helper.make_node("Mul", ["sum_out", "two"], ["y"]))
    # Rows below 3 can't be looked up without a fault, and there are none from 7 on.
    table = np.full((7, 4), np.nan, np.float32)
    table[3:] = np.random.default_rng(0).normal(size=(4, 4))
    graph = helper.make_graph(
        nodes,
        "step",
        [_info("token", TensorProto.INT64, ["B"]), _info("sum", TensorProto.FLOAT, ["B", 4])],
        [_info("y", TensorProto.FLOAT, ["B", 4]), _info("sum_out", TensorProto.FLOAT, ["B", 4])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.float32([2]), "two")],
    )
    f4 = tensor_pb2.DATA_TYPE_FLOAT32
    described = manifest_pb2.ModelManifest(
        format=1,
        form=manifest_pb2.MODEL_FORM_STEP,
        inputs=[
            manifest_pb2.TensorSpec(
                name="token", dtype=tensor_pb2.DATA_TYPE_INT64, minimum=3, maximum=6
            )
        ],
        outputs=[manifest_pb2.TensorSpec(name="y", dtype=f4, shape=[4])],
        states=[
            manifest_pb2.StateSpec(
                name="sum",
                output="sum_out",
                dtype=f4,
                shape=[4],
                initial=np.array([1, 2, 3, 4], "<f4").tobytes(),
            )
        ],
        max_batch=max_batch,
    )
    return _save(path, graph, described)


def rigid_model(path: Path) -> Path:
    """A sequence model without lengths: a running sum of x."""
    nodes = [
        helper.make_node("CumSum", ["x", "axis"], ["sums"]),
        helper.make_node("Add", ["sums", "total"], ["y"]),
        helper.make_node("Gather", ["y", "last"], ["total_out"], axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        "rigid",
        [
            _info("x", TensorProto.FLOAT, ["T", "B", 2]),
            _info("total", TensorProto.FLOAT, ["B", 2]),
        ],
        [
            _info("y", TensorProto.FLOAT, ["T", "B", 2]),
            _info("total_out", TensorProto.FLOAT, ["B", 2]),
        ],
        [
            numpy_helper.from_array(np.int64(0), "axis"),
            numpy_helper.from_array(np.int64(-1), "last"),
        ],
    )
    f4 = tensor_pb2.DATA_TYPE_FLOAT32
    described = manifest_pb2.ModelManifest(
        format=1,
        form=manifest_pb2.MODEL_FORM_SEQUENCE,
        inputs=[manifest_pb2.TensorSpec(name="x", dtype=f4, shape=[2])],
        outputs=[manifest_pb2.TensorSpec(name="y", dtype=f4, shape=[2])],
        states=[
            manifest_pb2.StateSpec(name="total", output="total_out", dtype=f4, shape=[2]),
        ],
    )
    return _save(path, graph, described)


def _save(path: Path, graph: onnx.GraphProto, described: manifest_pb2.ModelManifest) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    manifests.attach(model, described, {})
    onnx.save(model, path)
    return path


def _info(name: str, dtype: int, dims: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


def _first(model: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == operator)


def _insert_before(model: onnx.ModelProto, node: onnx.NodeProto, new: list[onnx.NodeProto]) -> None:
    place = list(model.graph.node).index(node)
    for extra in reversed(new):
        model.graph.node.insert(place, extra)


def _change_constant(
    model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
