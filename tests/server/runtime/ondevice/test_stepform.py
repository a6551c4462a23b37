"""The step form: the same model for one step a run, without lengths."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from carousel_server.runtime.manifest import read_model
from carousel_server.runtime.ondevice.stepform import control_flow, step_form
from tests.support import models
from tests.support.recurrent import CELLS, cell


def of(tmp_path, made):
    file = read_model(models.put(tmp_path, made))
    return file, step_form(file.graph, file.spec)


def outputs(graph, feeds):
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


@pytest.mark.parametrize("opset", [12, 13, 17, 21])
@pytest.mark.parametrize("name", CELLS)
def test_one_step_gives_the_same(tmp_path, name, opset):
    file, form = of(tmp_path, cell(name, layers=2, opset=opset, lengths_elsewhere=True))
    rng = np.random.default_rng(1)
    feeds = {"x": rng.normal(size=(1, 5, 3)).astype(np.float32)}
    feeds |= {s.name: rng.normal(size=(5, 8)).astype(np.float32) for s in file.spec.states}
    whole = outputs(file.graph, feeds | {"sequence_lens": np.ones(5, np.int32)})
    step = outputs(form.graph, feeds)
    assert whole.keys() == step.keys()
    for name_, value in whole.items():
        np.testing.assert_array_equal(step[name_], value)


def test_lengths_are_no_input_any_more(tmp_path):
    file, form = of(tmp_path, cell("lstm"))
    assert [v.name for v in form.graph.graph.input] == ["x", "h0", "c0"]
    assert form.spec.sequence_lens == ""
    assert form.spec.time_axis
    (operator,) = (n for n in form.graph.graph.node if n.op_type == "LSTM")
    assert operator.input[4] == ""
    assert all(n.op_type != "Expand" for n in form.graph.graph.node), "nobody else reads them"
    assert file.graph.graph.input[-1].name == "sequence_lens", "the model itself stays"
    onnx.checker.check_model(form.graph)


def test_a_model_of_one_step_is_its_own_step_form(tmp_path):
    file, form = of(tmp_path, models.running_sum())
    assert form.graph is file.graph
    assert form.spec is file.spec


def test_control_flow_is_found():
    assert control_flow(models.lstm()) == []
    made = models.running_sum()
    branch = helper.make_graph(
        [helper.make_node("Identity", ["y"], ["z"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None)],
    )
    made.graph.node.append(
        helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    )
    assert control_flow(made) == ["If"]
