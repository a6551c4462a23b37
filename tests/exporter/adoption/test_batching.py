"""Batches: opened where that proves right, refused with the reason where it doesn't."""

import numpy as np
import onnx
import pytest

from carousel_exporter.adoption import Options
from tests.exporter.adoption.texts import H, adopted, graph, pairs_of, random

WEIGHTS = {
    "W": random(1, 3 * H, 3),
    "R": random(1, 3 * H, H, seed=1),
    "V": random(H, 2, seed=2),
    "zero": np.array([0]),
}


def gru(before: str, after: str, weights: dict[str, np.ndarray], state="float[1,1,6]"):
    """One step of a GRU with everything fixed at one row."""
    return graph(
        f"""g (float[1,3] x, {state} h) => (float[1,2] y, {state} hn) {{
            {before}
            Y, hn = GRU<hidden_size = {H}>(x1, W, R, , , h)
            {after}
            y = MatMul(t, V)
        }}""",
        WEIGHTS | weights,
    )


def rows_equal_alone(runner, width=3):
    chunks = [{"x": random(4, width, seed=k)} for k in range(5)]
    together, _ = runner.advance(chunks, [runner.new_state() for _ in chunks])
    alone = [runner.advance([chunk], [runner.new_state()])[0][0] for chunk in chunks]
    return all(
        np.allclose(a["y"], b["y"], rtol=0, atol=1e-5) for a, b in zip(together, alone, strict=True)
    )


def test_declared_shapes_alone_are_mended(tmp_path):
    model = gru("x1 = Unsqueeze(x, zero)", "t = Squeeze(hn, zero)", {})
    report, runner = adopted(model, tmp_path)
    assert report.batchable
    assert rows_equal_alone(runner)


@pytest.mark.parametrize(
    "shapes",
    [([1, 1, 3], [1, -1]), ([1, 1, -1], [1, H]), ([-1, 1, 3], [-1, H]), ([1, -1, 3], [0, -1])],
    ids=str,
)
def test_reshapes_that_hold_one_row_are_mended(tmp_path, shapes):
    """Even one whose free dimension would quietly take all rows in."""
    first, last = map(np.array, shapes)
    model = gru("x1 = Reshape(x, sx)", "t = Reshape(hn, st)", {"sx": first, "st": last})
    report, runner = adopted(model, tmp_path)
    assert report.batchable, report.batching
    assert rows_equal_alone(runner)


def test_a_first_state_of_zeros_inside_is_mended(tmp_path):
    """A layer over the parts of one step, which begins anew in each."""
    model = graph(
        f"""g (float[1,5,3] x, float[1,1,{H}] h) => (float[1,2] y, float[1,1,{H}] hn) {{
            parts = Transpose<perm = [1, 0, 2]>(x)
            none = ConstantOfShape(first)
            Yp, hp = GRU<hidden_size = {H}, direction = "forward">(parts, W, R, , , none)
            Y, hn = GRU<hidden_size = {H}>(hp, W2, R, , , h)
            t = Squeeze(hn, zero)
            y = MatMul(t, V)
        }}""",
        WEIGHTS | {"W2": random(1, 3 * H, H, seed=5), "first": np.array([1, 1, H])},
    )
    report, _ = adopted(model, tmp_path)
    assert report.batchable, report.batching
    assert "mended" in report.batching


def test_a_layer_may_run_backwards_over_the_parts_of_a_step(tmp_path):
    model = graph(
        f"""g (float[B,5,3] x, float[1,B,{H}] h) => (float[B,2] y, float[1,B,{H}] hn) {{
            parts = Transpose<perm = [1, 0, 2]>(x)
            Yp, hp = GRU<hidden_size = {H}, direction = "bidirectional">(parts, Wp, Rp)
            both = Transpose<perm = [1, 0, 2]>(hp)
            flat = Reshape(both, shape)
            x1 = Unsqueeze(flat, zero)
            Y, hn = GRU<hidden_size = {H}>(x1, W2, R, , , h)
            t = Squeeze(hn, zero)
            y = MatMul(t, V)
        }}""",
        WEIGHTS
        | {
            "Wp": random(2, 3 * H, 3, seed=6),
            "Rp": random(2, 3 * H, H, seed=7),
            "W2": random(1, 3 * H, 2 * H, seed=8),
            "shape": np.array([-1, 2 * H]),
        },
    )
    report, _ = adopted(model, tmp_path)
    assert pairs_of(report) == {"h": "hn"}
    assert report.batchable


def test_what_takes_the_row_away_runs_alone(tmp_path):
    model = gru(
        "x0 = Squeeze(x, zero)  x1 = Unsqueeze(x0, two)",
        "t = Squeeze(hn, zero)",
        {"two": np.array([0, 1])},
    )
    report, _ = adopted(model, tmp_path)
    assert report.max_batch == 1
    assert report.manifest.max_batch == 1
    assert "2 rows" in report.batching


def test_what_mixes_rows_runs_alone_and_says_by_how_much(tmp_path):
    model = graph(
        """g (float[B,3] x, float[B,3] h) => (float[B,3] y, float[B,3] h_out) {
            m = ReduceMean<axes = [0]>(x)  r = MatMul(h, S)  a = Add(x, r)  h_out = Tanh(a)
            y = Add(h_out, m)
        }""",
        {"S": random(3, 3)},
    )
    report, _ = adopted(model, tmp_path)
    assert report.max_batch == 1
    assert "give 'y' another value than alone" in report.batching


def test_an_answer_of_all_rows_together_makes_them_run_alone(tmp_path):
    model = graph(
        """g (float[B,3] x, float[B,3] h) => (float[B,3] y, float[B,3] h_out, float m) {
            r = MatMul(h, S)  a = Add(x, r)  h_out = Tanh(a)
            y = Neg(h_out)  m = ReduceMean<keepdims = 0>(h_out)
        }""",
        {"S": random(3, 3)},
    )
    assert adopted(model, tmp_path)[0].max_batch == 1


def test_answers_that_depend_on_nothing_are_repeated_for_all_rows(tmp_path):
    model = graph(
        """g (float[B,3] x, float[B,3] h)
            => (float[B,3] y, float[B,3] h_out, float[2] k, float v, float[B,3] x) {
            r = MatMul(h, S)  a = Add(x, r)  h_out = Tanh(a)
            y = Neg(h_out)  v = Constant<value = float {3.0}>()
        }""",
        {"S": random(3, 3), "k": np.array([1.0, 2.0])},
    )
    report, runner = adopted(model, tmp_path)
    assert report.batchable, report.batching
    x = random(1, 3)
    (first, second), _ = runner.advance([{"x": x}, {"x": -x}], [runner.new_state()] * 2)
    np.testing.assert_array_equal(first["k"], [[1, 2]])
    np.testing.assert_array_equal(second["v"], [3])
    np.testing.assert_array_equal(second["x_out"], -x)


LOOPING = f"""g (float[T,B,3] x, float[1,B,{H}] h) => (float[T,B,{H}] y, float[1,B,{H}] hn) {{"""


def test_layers_that_can_take_lengths_get_them(tmp_path):
    text = f"""{LOOPING}
        Y, hn = GRU<hidden_size = {H}>(x, W, R, , , h)  y = Squeeze(Y, one) }}"""
    report, _ = adopted(graph(text, WEIGHTS | {"one": np.array([1])}), tmp_path)
    assert report.manifest.sequence_lens == "sequence_lens"
    assert "ragged batches, random order" in [check.name for check in report.checks]


def test_lengths_are_left_out_where_the_last_step_is_taken_of_all(tmp_path):
    text = f"""{LOOPING}
        Y, unused = GRU<hidden_size = {H}>(x, W, R, , , h)
        y = Squeeze(Y, one)  hn = Gather<axis = 0>(Y, last) }}"""
    weights = WEIGHTS | {"one": np.array([1]), "last": np.array(-1)}
    report, _ = adopted(graph(text, weights), tmp_path)
    assert report.manifest.sequence_lens == ""
    assert report.batchable


@pytest.mark.parametrize(("opset", "ir", "after"), [(9, 3, 17), (13, 8, 13), (24, 11, 21)])
def test_operators_are_brought_into_range(tmp_path, opset, ir, after):
    model = graph(
        """g (float[B,3] x, float[B,3] h) => (float[B,3] y, float[B,3] h_out) {
            r = MatMul(h, S)  a = Add(x, r)  h_out = Tanh(a)  y = Neg(h_out)
        }""",
        {"S": random(3, 3)},
        opset=opset,
    )
    model.ir_version = ir
    if ir < 4:  # as old files list their weights
        declared = onnx.helper.make_tensor_value_info("S", onnx.TensorProto.FLOAT, [3, 3])
        model.graph.input.append(declared)
    report, _ = adopted(model, tmp_path, Options())
    assert (report.opset_before, report.opset_after) == (opset, after)
    written = onnx.load(tmp_path / "model.onnx")
    assert 8 <= written.ir_version <= 10
    assert [value.name for value in written.graph.input] == ["x", "h"]
