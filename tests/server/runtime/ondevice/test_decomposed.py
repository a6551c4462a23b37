"""Operators taken apart: the same function, in each dtype's own tolerance, against float64."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from carousel_server.runtime.manifest import read_model
from carousel_server.runtime.ondevice.decomposed import decompose
from carousel_server.runtime.ondevice.stepform import RECURRENT, step_form
from tests.support import models
from tests.support.recurrent import CELLS, cell

#: Largest errors relative to the larger of 1 and the value; a few unit roundoffs of the dtype
#: (2^-24, 2^-11, 2^-8) for sums of a dozen products.
TOLERANCES = {"float32": 2e-6, "tf32": 2e-6, "float16": 4e-3, "bfloat16": 3e-2}


def apart(tmp_path, made, math="float32"):
    file = read_model(models.put(tmp_path, made))
    return decompose(step_form(file.graph, file.spec).graph, math=math), file


def feeds_for(file, *, rows=5, seed=1):
    rng = np.random.default_rng(seed)
    feeds = {"x": rng.normal(size=(1, rows, 3)).astype(np.float32)}
    return feeds | {s.name: rng.normal(size=(rows, 8)).astype(np.float32) for s in file.spec.states}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def in_float64(name, file, feeds):
    """Return the states after one step, from the equations of the operator's definition."""
    weights = {
        t.name: numpy_helper.to_array(t).astype(np.float64) for t in file.graph.graph.initializer
    }
    x, found = feeds["x"][0].astype(np.float64), {}
    for layer in range(2):
        W, R = weights[f"W{layer}"][0], weights[f"R{layer}"][0]
        Wb, Rb = np.split(weights.get(f"B{layer}", np.zeros((1, 2 * len(W))))[0], 2)
        h = feeds[f"h{layer}"].astype(np.float64)
        of_x, of_h = x @ W.T + Wb, h @ R.T + Rb
        if name == "lstm":
            i, o, f, g = np.split(of_x + of_h, 4, axis=1)
            c = sigmoid(f) * feeds[f"c{layer}"].astype(np.float64) + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            found[f"c{layer}_out"] = c
        elif name.startswith("gru"):
            zx, rx, nx = np.split(of_x, 3, axis=1)
            zh, rh, nh = np.split(of_h, 3, axis=1)
            z, r = sigmoid(zx + zh), sigmoid(rx + rh)
            if name == "gru":
                nh = (r * h) @ R[16:].T + Rb[16:]
                n = np.tanh(nx + nh)
            else:
                n = np.tanh(nx + r * nh)
            h = (1 - z) * n + z * h
        else:
            total = of_x + of_h
            h = np.tanh(total) if name == "rnn" else np.maximum(total, 0)
        found[f"h{layer}_out"] = x = h
    return found | {"y": x[None]}


def run(graph, feeds, math):
    names = [value.name for value in graph.graph.output]
    if math == "bfloat16":  # the CPU provider has no products of bfloat16
        return dict(zip(names, ReferenceEvaluator(graph).run(names, feeds), strict=True))
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, feeds), strict=True))


def error(value, wanted):
    return (np.abs(value - wanted) / np.maximum(1, np.abs(wanted))).max()


@pytest.mark.parametrize("math", TOLERANCES)
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_answers_and_states_are_those_of_the_equations(tmp_path, name, math, bias):
    made, file = apart(tmp_path, cell(name, layers=2, bias=bias), math)
    assert (made.taken, made.left) == (2, ())
    feeds = feeds_for(file)
    wanted = in_float64(name, file, feeds)
    came = run(made.graph, feeds, math)
    assert came.keys() == wanted.keys()
    assert max(error(came[n], wanted[n]) for n in wanted) < TOLERANCES[math]


@pytest.mark.parametrize("math", ["float16", "bfloat16"])
def test_products_really_are_short(tmp_path, math):
    """Otherwise the tolerances above would say nothing of them."""
    made, file = apart(tmp_path, cell("lstm", layers=2), math)
    feeds = feeds_for(file)
    came, wanted = run(made.graph, feeds, math), in_float64("lstm", file, feeds)
    assert max(error(came[n], wanted[n]) for n in wanted) > 20 * TOLERANCES["float32"]


@pytest.mark.parametrize("opset", [12, 13, 18, 21])
@pytest.mark.parametrize("name", CELLS)
def test_it_is_the_operator_at_every_opset(tmp_path, name, opset):
    made, file = apart(tmp_path, cell(name, layers=2, opset=opset))
    onnx.checker.check_model(made.graph)
    assert not [n for n in made.graph.graph.node if n.op_type in RECURRENT]
    feeds = feeds_for(file)
    form = step_form(file.graph, file.spec)
    came, wanted = run(made.graph, feeds, "float32"), run(form.graph, feeds, "float32")
    assert max(error(came[n], wanted[n]) for n in wanted) < TOLERANCES["float32"]


def test_one_product_for_all_gates(tmp_path):
    made, _ = apart(tmp_path, cell("lstm"))
    products = [n.op_type for n in made.graph.graph.node if n.op_type in ("Gemm", "MatMul")]
    assert products == ["Gemm"]


def test_the_operators_weights_are_gone(tmp_path):
    made, _ = apart(tmp_path, cell("lstm"))
    assert not {"W0", "R0", "B0"} & {t.name for t in made.graph.graph.initializer}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"clip": 1.0}, "it clips"),
        ({"input_forget": 1}, "input_forget is 1"),
        ({"activations": ["Sigmoid", "Relu", "Tanh"]}, "activations are"),
        ({"activation_alpha": [0.1]}, "activations have parameters"),
        ({"direction": "reverse"}, "direction is b'reverse'"),
    ],
)
def test_what_is_unusual_stays_an_operator(tmp_path, options, reason):
    made, _ = apart(tmp_path, cell("lstm", layers=2, **options))
    assert made.taken == 0
    assert len(made.left) == 2
    assert reason in made.left[0]
    assert [n.op_type for n in made.graph.graph.node].count("LSTM") == 2


def test_weights_that_are_computed_stay_with_their_operator(tmp_path):
    graph = cell("lstm")
    for node in graph.graph.node:
        if node.op_type == "LSTM":
            node.input[1] = "W_sum"
    graph.graph.node.insert(0, helper.make_node("Add", ["W0", "x_sum"], ["W_sum"]))
    graph.graph.node.insert(0, helper.make_node("ReduceSum", ["x"], ["x_sum"], keepdims=0))
    made, _ = apart(tmp_path, graph)
    assert made.taken == 0
    assert "not constant" in made.left[0]


def test_weights_may_be_constant_nodes(tmp_path):
    graph = cell("rnn")
    (weights,) = (t for t in graph.graph.initializer if t.name == "W0")
    graph.graph.initializer.remove(weights)
    graph.graph.node.insert(0, helper.make_node("Constant", [], ["W0"], value=weights))
    made, file = apart(tmp_path, graph)
    assert made.taken == 1
    assert weights.data_type == TensorProto.FLOAT
    feeds = feeds_for(file)
    came = run(made.graph, feeds, "float32")
    wanted = run(step_form(file.graph, file.spec).graph, feeds, "float32")
    assert error(came["y"], wanted["y"]) < TOLERANCES["float32"]
