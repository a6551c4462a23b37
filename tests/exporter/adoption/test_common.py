"""What rows, or steps, of a run have in common, and only rarely: no usual input shows it."""

import numpy as np
import onnx
import pytest

from carousel_exporter.adoption.control import decided_by_values
from carousel_exporter.errors import ModelFileError
from tests.exporter.adoption.texts import adopted, graph, random

WEIGHTS = {"V": random(3, 2), "limit": np.float32(8), "half": np.float32(0.5)}

STEP = "(float[B,3] x, float[B,3] h) => (float[B,2] y, float[B,3] h_out)"
#: c' = tanh(x + c) for each step of a sequence.
SCAN = """h_out, hs = Scan<num_scan_inputs = 1, body = b (float[B,3] c, float[B,3] z)
    => (float[B,3] d, float[B,3] e) { s = Add(z, c)  d = Tanh(s)  e = Identity(d) }>(h, x1)"""


def step(before: str, after: str = "") -> onnx.ModelProto:
    return graph(
        f"""g {STEP} {{
            {before}
            s = Add(x1, h)
            h_out = Tanh(s)
            top = MatMul(h_out, V)
            {after or "y = Identity(top)"}
        }}""",
        WEIGHTS,
    )


BRANCH = """y = If(usual) <
    then_branch = t () => (float[B,2] a) { a = Identity(top) },
    else_branch = e () => (float[B,2] b) { b = Mul(top, half) }>"""
PEAK = """sizes = Abs(x)  peak = ReduceMax<keepdims = 0>(sizes)
    divisor = Max(peak, limit)  x1 = Div(x, divisor)"""


def test_a_branch_that_a_rare_value_decides_leaves_one_row_a_run(tmp_path):
    model = step(
        "peak = ReduceMax<keepdims = 0>(x)  usual = Less(peak, limit)  x1 = Identity(x)", BRANCH
    )
    report, _ = adopted(model, tmp_path)
    assert not report.batchable
    assert "the branch of an If 'usual' comes from the values" in report.batching


def test_a_rare_peak_that_rows_share_leaves_one_row_a_run(tmp_path):
    report, _ = adopted(step(PEAK), tmp_path)
    assert not report.batchable
    assert "very loud and very quiet" in report.batching


@pytest.mark.parametrize("case", [(PEAK, True), ("x1 = Identity(x)", False)], ids=["peak", "none"])
def test_a_rare_peak_that_steps_share_is_refused(tmp_path, case):
    before, is_refused = case
    model = graph(
        f"""g (float[T,B,3] x, float[B,3] h) => (float[T,B,2] y, float[B,3] h_out) {{
            {before}
            {SCAN}
            y = MatMul(hs, V)
        }}""",
        WEIGHTS,
    )
    if not is_refused:
        assert adopted(model, tmp_path)[0].batchable
        return
    with pytest.raises(ModelFileError, match="over all steps of a run together"):
        adopted(model, tmp_path)
    assert not (tmp_path / "model.onnx").exists()


def loop(count: str, go_on: str) -> onnx.GraphProto:
    """A loop over tanh, `count` times at most, that goes on while `go_on` says so."""
    return graph(
        f"""g {STEP} {{
            {count}
            i0 = Constant<value = int64[1] {{0}}>()
            i1, h_out = Loop(n, , i0, h) <body = b (int64 turn, bool more, int64[1] i, float[B,3] c)
                => (bool go, int64[1] j, float[B,3] d) {{
                one = Constant<value = int64[1] {{1}}>()
                j = Add(i, one)
                s = Add(x, c)
                d = Tanh(s)
                {go_on}
            }}>
            y = MatMul(h_out, V)
        }}""",
        WEIGHTS | {"five": np.int64(5), "sixth": np.array([6]), "zero": np.array(0)},
    ).graph


FIVE = "n = Identity(five)"


@pytest.mark.parametrize(
    ("count", "go_on", "decided"),
    [
        (FIVE, "go = Identity(more)", ""),
        (FIVE, "l = Less(j, sixth)  go = Squeeze(l)", ""),
        (FIVE, "m = ReduceMax<keepdims = 0>(d)  go = Less(m, limit)", "end of a Loop 'go'"),
        (FIVE, "m = ReduceMax<keepdims = 0>(c)  go = Less(m, limit)", "end of a Loop 'go'"),
        ("sizes = Shape(x)  n = Gather(sizes, zero)", "go = Identity(more)", ""),
        (
            "m = ReduceMax<keepdims = 0>(x)  n = Cast<to = 7>(m)",
            "go = Identity(more)",
            "end of a Loop 'n'",
        ),
    ],
    ids=["counted", "counter", "answer", "state", "shape", "turns"],
)
def test_a_loop_that_values_end_is_told_from_one_that_counts(count, go_on, decided):
    model = loop(count, go_on)
    assert decided in decided_by_values(model)
    assert bool(decided) == bool(decided_by_values(model))


def test_inputs_that_are_free_to_decide_do_not_count():
    before = "peak = ReduceMax<keepdims = 0>(x)  usual = Less(peak, limit)  x1 = Identity(x)"
    model = step(before, BRANCH)
    assert decided_by_values(model.graph)
    assert not decided_by_values(model.graph, ["x"])
