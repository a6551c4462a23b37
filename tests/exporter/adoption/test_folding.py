"""Branches that are always taken go, those that values decide stay; constants are computed once."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from carousel_exporter.adoption import Options
from carousel_exporter.adoption.folding import fold
from carousel_exporter.adoption.graphs import count_nodes
from carousel_exporter.adoption.trials import Trial
from tests.exporter.adoption.texts import adopted, graph, random

FEEDS = [{"x": random(rows, 3, seed=rows)} for rows in (1, 2, 5)]


def branching(condition: str, weights=None) -> onnx.ModelProto:
    """Double x or negate it; both branches have inner values of the same name."""
    model = graph(f"g (float[B,3] x) => (float[B,3] y) {{ {condition} }}", weights)

    def branch(operator, inputs):
        nodes = [helper.make_node(operator, inputs, ["inner"]), _identity("inner", "end")]
        return helper.make_graph(nodes, operator, [], [onnx.ValueInfoProto(name="end")])

    model.graph.node.append(
        helper.make_node(
            "If",
            ["cond"],
            ["chosen"],
            then_branch=branch("Add", ["x", "x"]),
            else_branch=branch("Neg", ["x"]),
        )
    )
    model.graph.node.append(_identity("chosen", "y"))
    return model


def _identity(source, target):
    return helper.make_node("Identity", [source], [target])


def same(model, folded, feeds=FEEDS):
    before, after = Trial(model), Trial(folded)
    return all(np.array_equal(before.run(f)["y"], after.run(f)["y"]) for f in feeds)


@pytest.mark.parametrize(("size", "factor"), [(3, 2), (4, -1)])
def test_a_branch_that_shapes_decide_is_taken(size, factor):
    model = branching(
        "s = Shape(x)  n = Gather<axis = 0>(s, one)  eq = Equal(n, size)  cond = Squeeze(eq)",
        {"one": np.array([1]), "size": np.array([size])},
    )
    folded = fold(model, FEEDS)
    assert count_nodes(folded, "If") == 0
    assert count_nodes(folded) == 1
    assert same(model, folded)
    np.testing.assert_array_equal(Trial(folded).run(FEEDS[0])["y"], factor * FEEDS[0]["x"])


def test_a_branch_that_the_number_of_rows_decides_stays():
    model = branching(
        "s = Shape(x)  n = Gather<axis = 0>(s, zero)  eq = Equal(n, one)  cond = Squeeze(eq)",
        {"one": np.array([1]), "zero": np.array([0])},
    )
    folded = fold(model, FEEDS)
    assert count_nodes(folded, "If") == 1
    assert same(model, folded)


def test_a_branch_that_values_decide_stays_even_where_no_trial_took_it():
    model = branching("m = ReduceMax<keepdims = 0>(x)  cond = Less(m, far)", {"far": np.array(1e9)})
    folded = fold(model, FEEDS)
    assert count_nodes(folded, "If") == 1
    extreme = [{"x": np.full((2, 3), 2e9, np.float32)}]
    assert same(model, folded, FEEDS + extreme)


def test_branches_within_branches_are_taken_too():
    """Three deep, and both branches of one have the same inner names."""
    model = branching("cond = Identity(yes)", {"yes": np.bool_(1)})
    nodes = [n for n in model.graph.node if n.output[0] != "y"]
    for depth in range(3):
        body = helper.make_graph(nodes, "body", [], [onnx.ValueInfoProto(name=nodes[-1].output[0])])
        ways = {"then_branch": body, "else_branch": body}
        nodes = [helper.make_node("If", ["yes"], [f"chosen{depth}"], **ways)]
    del model.graph.node[:]
    model.graph.node.extend([*nodes, _identity("chosen2", "y")])
    assert count_nodes(model, "If") == 15
    folded = fold(model, FEEDS)
    assert count_nodes(folded) == 1
    assert same(model, folded)


def test_what_only_constants_give_is_computed_once():
    model = graph(
        "g (float[B,3] x) => (float[B,3] y) {"
        " a = Add(w, w)  b = Mul(a, w)  n = RandomNormalLike(w)  z = Sub(n, n)  c = Add(b, z)"
        " y = Mul(x, c) }",
        {"w": random(3)},
    )
    folded = fold(model, FEEDS)
    assert [n.op_type for n in folded.graph.node] == ["RandomNormalLike", "Sub", "Add", "Mul"]
    assert same(model, folded)


def test_a_constant_decides_its_branches(tmp_path):
    model = graph(
        """g (float[B,3] x, float[B,3] h, int64 rate) => (float[B,3] y, float[B,3] h_out) {
            cond = Equal(rate, known)
            r = MatMul(h, R)  s = Add(x, r)  h_out = Tanh(s)
        }""",
        {"known": np.array(8000), "R": random(3, 3)},
    )
    info = [helper.make_tensor_value_info("end", TensorProto.FLOAT, None)]
    ways = {
        name: helper.make_graph([helper.make_node(op, ["h_out"], ["end"])], op, [], info)
        for name, op in (("then_branch", "Neg"), ("else_branch", "Exp"))
    }
    model.graph.node.append(helper.make_node("If", ["cond"], ["y"], **ways))
    report, runner = adopted(model, tmp_path, Options(constants={"rate": "8000"}))
    assert (report.ifs_before, report.ifs_after) == (1, 0)
    (answer,), (state,) = runner.advance([{"x": random(2, 3)}], [runner.new_state()])
    np.testing.assert_array_equal(answer["y"][-1], -state["h"])
