"""Weights that other exporters put together inside the graph."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from carousel_exporter.precision.cells import WrittenStep
from carousel_exporter.precision.constants import gather_constants
from carousel_exporter.precision.unrolling import unroll
from tests.exporter.precision.graphs import answers, make, save, sessions


def scattered() -> onnx.ModelProto:
    """An LSTM whose R is a Concat of two parts, one of them the value of a Constant node."""
    model = make("lstm", layers=1)
    tensor = next(t for t in model.graph.initializer if t.name == "R0")
    upper, lower = np.split(numpy_helper.to_array(tensor).copy(), 2, axis=1)
    tensor.CopyFrom(numpy_helper.from_array(upper, "upper"))
    model.graph.node.insert(0, helper.make_node("Concat", ["upper", "lower"], ["R0"], axis=1))
    lower = numpy_helper.from_array(lower)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["lower"], value=lower))
    return model


def test_they_become_constants_and_the_layer_can_be_written_out(tmp_path):
    model = scattered()
    before, _ = answers(save(model, tmp_path / "a.onnx"), sessions(3, 5))
    assert unroll(scattered(), WrittenStep).left
    gather_constants(model)
    assert not {"Constant", "Concat"} & {node.op_type for node in model.graph.node}
    after, _ = answers(save(model, tmp_path / "b.onnx"), sessions(3, 5))
    np.testing.assert_array_equal(after, before)
    assert not unroll(model, WrittenStep).left
