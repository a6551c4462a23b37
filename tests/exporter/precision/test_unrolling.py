"""A recurrent operator written out computes what it did."""

import numpy as np
import onnx
import pytest

from carousel_exporter.precision.cells import WrittenStep
from carousel_exporter.precision.unrolling import unroll
from carousel_exporter.verification import verify
from tests.exporter.precision.graphs import KINDS, answers, make, save, sessions


@pytest.mark.parametrize("lengths", [True, False], ids=["ragged", "even"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_answers_and_states(tmp_path, kind, lengths):
    model = make(kind, lengths=lengths)
    given = sessions(5, 9)
    if lengths:
        given = [{"x": s["x"][: 1 + 2 * row]} for row, s in enumerate(given)]
    before, states = answers(save(model, tmp_path / "a.onnx"), given)
    result = unroll(model, WrittenStep)
    assert len(result.cells) == 2
    after, new_states = answers(save(model, tmp_path / "b.onnx"), given)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)
    for one, other in zip(states, new_states, strict=True):
        for name in one:
            np.testing.assert_allclose(other[name], one[name], rtol=0, atol=1e-5)
    assert verify(tmp_path / "b.onnx").passed


def test_no_recurrent_operator_is_left(tmp_path):
    model = make("lstm")
    unroll(model, WrittenStep)
    assert not {"LSTM"} & {node.op_type for node in model.graph.node}
    onnx.checker.check_model(model)


def test_what_cannot_be_written_out_is_left_and_told():
    model = make("lstm")
    node = next(n for n in model.graph.node if n.op_type == "LSTM")
    node.attribute.append(onnx.helper.make_attribute("clip", 3.0))
    result = unroll(model, WrittenStep)
    assert result.left == {"lstm 0 (node 2)": "it has peepholes, a clip or another rare attribute"}
    assert len(result.cells) == 1


def test_a_state_that_may_begin_anywhere_bounds_nothing():
    assert unroll(make("gru"), WrittenStep).bounded
    assert not unroll(make("gru"), WrittenStep, trust_states=False).bounded
    assert not unroll(make("relu"), WrittenStep).bounded
