"""Which states are found, and which are refused with the numbers that speak against them."""

import numpy as np
import pytest

from carousel_exporter.adoption import Context, Options, Size, StatePair
from carousel_exporter.errors import ExporterError
from tests.exporter.adoption.texts import H, adopted, graph, gru_step, lstm_step, pairs_of, random


def stated(*pairs: str) -> Options:
    return Options(states=tuple(StatePair.parse(pair) for pair in pairs))


def renamed(model, **names):
    """Give inputs and outputs names that say nothing."""
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        for values in (node.input, node.output):
            for place, name in enumerate(values):
                values[place] = names.get(name, name)
    return model


def decomposed_lstm(layers: int = 1):
    """LSTM cells of plain operators, one step a run; names tell nothing."""
    weights, body, top = {}, "", "a"
    for k in range(layers):
        width = 3 if k == 0 else H
        weights |= {f"W{k}": random(width, 4 * H, seed=k), f"R{k}": random(H, 4 * H, seed=k + 9)}
        body += f"""
            wx{k} = MatMul({top}, W{k})  rh{k} = MatMul(p{k}, R{k})
            s{k} = Add(wx{k}, rh{k})
            i{k}, o{k}, f{k}, g{k} = Split<axis = 1>(s{k})
            si{k} = Sigmoid(i{k})  so{k} = Sigmoid(o{k})  sf{k} = Sigmoid(f{k})  tg{k} = Tanh(g{k})
            fc{k} = Mul(sf{k}, q{k})  ig{k} = Mul(si{k}, tg{k})
            v{k} = Add(fc{k}, ig{k})
            tc{k} = Tanh(v{k})
            u{k} = Mul(so{k}, tc{k})"""
        top = f"u{k}"
    ins = ", ".join(f"float[B,{H}] {s}{k}" for k in range(layers) for s in "pq")
    outs = ", ".join(f"float[B,{H}] {s}{k}" for k in range(layers) for s in "uv")
    return graph(
        f"g (float[B,3] a, {ins}) => (float[B,2] z, {outs}) {{{body} z = MatMul({top}, V) }}",
        weights | {"V": random(H, 2)},
    )


def test_h_and_c_are_told_apart_by_operators_without_names(tmp_path):
    model = renamed(lstm_step(), x="a", h0="p", c0="q", y="z", hn="u", cn="v")
    assert pairs_of(adopted(model, tmp_path)[0]) == {"p": "u", "q": "v"}


@pytest.mark.parametrize("layers", [1, 2])
def test_h_and_c_are_told_apart_by_numbers_without_names(tmp_path, layers):
    report, _ = adopted(decomposed_lstm(layers), tmp_path)
    expected = {f"p{k}": f"u{k}" for k in range(layers)} | {f"q{k}": f"v{k}" for k in range(layers)}
    assert pairs_of(report) == expected


@pytest.mark.parametrize(
    ("make", "pairs"),
    [
        (lstm_step, ["h0=cn", "c0=hn"]),
        (gru_step, ["p=s", "q=r"]),
        (decomposed_lstm, ["p0=v0", "q0=u0"]),
    ],
    ids=["operators", "layers", "plain operators"],
)
def test_states_that_are_swapped_in_a_graph_of_one_step_are_refused(tmp_path, make, pairs):
    with pytest.raises(ExporterError, match=r"\d") as refused:
        adopted(make(), tmp_path, stated(*pairs))
    assert not (tmp_path / "model.onnx").exists()
    assert any(pair.partition("=")[0] in str(refused.value) for pair in pairs)


def test_an_answer_in_the_place_of_a_state_is_refused_by_the_operators_own_longer_run(tmp_path):
    single = graph(
        f"""gru (float[1,B,3] x, float[1,B,{H}] h) => (float[1,B,{H}] y, float[1,B,{H}] hn) {{
            Y, hn = GRU<hidden_size = {H}>(x, W, R, , , h)
            y = MatMul(hn, V)
        }}""",
        {"W": random(1, 3 * H, 3), "R": random(1, 3 * H, H, seed=1), "V": random(H, H, seed=2)},
    )
    with pytest.raises(ExporterError, match=r"differs by .* from the same layer's in one run"):
        adopted(single, tmp_path, stated("h=y"))
    assert pairs_of(adopted(single, tmp_path)[0]) == {"h": "hn"}


def test_a_state_that_was_forgotten_is_asked_for(tmp_path):
    with pytest.raises(ExporterError, match="'c0' is a state too"):
        adopted(lstm_step(), tmp_path, stated("h0=hn"))


def test_what_never_changes_is_no_state(tmp_path):
    model = graph(
        f"""g (float[B,{H}] x, float[B,{H}] h, float[B,{H}] k)
            => (float[B,{H}] y, float[B,{H}] h_out, float[B,{H}] k_out) {{
            r = MatMul(h, R)  s = Add(x, r)  h_out = Tanh(s)
            y = Mul(h_out, k)  k_out = Identity(k)
        }}""",
        {"R": random(H, H)},
    )
    with pytest.raises(ExporterError, match="'k_out' always equals"):
        adopted(model, tmp_path, stated("h=h_out", "k=k_out"))


def test_what_reaches_no_answer_is_no_state(tmp_path):
    model = graph(
        f"""g (float[B,{H}] x, float[B,{H}] h, float[B,{H}] k)
            => (float[B,{H}] y, float[B,{H}] h_out, float[B,{H}] k_out) {{
            r = MatMul(h, R)  s = Add(x, r)  h_out = Tanh(s)
            y = Neg(h_out)  k_out = Add(k, x)
        }}""",
        {"R": random(H, H)},
    )
    with pytest.raises(ExporterError, match="'k' changes no answer"):
        adopted(model, tmp_path, stated("h=h_out", "k=k_out"))


def test_a_delay_line_is_found_in_its_order(tmp_path):
    """Its second stage takes what the first held: neither changes its own successor."""
    model = graph(
        """g (float[B,4] x, float[B,4] d1, float[B,4] d2)
            => (float[B,4] y, float[B,4] d1_out, float[B,4] d2_out) {
            y = Add(x, d2)  d1_out = Identity(x)  d2_out = Identity(d1)
        }"""
    )
    report, runner = adopted(model, tmp_path)
    assert pairs_of(report) == {"d1": "d1_out", "d2": "d2_out"}
    x = random(5, 4)
    (answer,), _ = runner.advance([{"x": x}], [runner.new_state()])
    np.testing.assert_array_equal(answer["y"][2:], x[2:] + x[:3])
    np.testing.assert_array_equal(answer["y"][:2], x[:2])


def test_an_answer_that_is_fed_back_is_answer_and_state(tmp_path):
    """A Jordan network: its only output is both."""
    model = graph(
        """g (float[B,4] x, float[B,4] y_prev) => (float[B,4] y) {
            r = MatMul(y_prev, R)  s = Add(x, r)  y = Tanh(s)
        }""",
        {"R": random(4, 4)},
    )
    report, runner = adopted(model, tmp_path)
    assert pairs_of(report) == {"y_prev": "y"}
    (answer,), (state,) = runner.advance([{"x": random(3, 4)}], [runner.new_state()])
    (values,) = answer.values()
    np.testing.assert_array_equal(values[-1], state["y_prev"])


def test_one_answer_a_run_makes_a_graph_of_one_step(tmp_path):
    """It takes any number of steps, and answers after the last: served with one step a run."""
    model = graph(
        f"""g (float[B,T,3] x, float[1,B,{H}] h0) => (float[B,2] y, float[1,B,{H}] hn) {{
            xt = Transpose<perm = [1, 0, 2]>(x)
            Y, hn = RNN<hidden_size = {H}>(xt, W, R, , , h0)
            top = Squeeze(hn, zero)
            y = MatMul(top, V)
        }}""",
        {
            "W": random(1, H, 3),
            "R": random(1, H, H, seed=1),
            "V": random(H, 2),
            "zero": np.array([0]),
        },
    )
    report, _ = adopted(model, tmp_path)
    assert report.proposal.form == "step"
    assert list(report.manifest.inputs[0].shape) == [3]
    assert report.batchable


def test_a_time_axis_may_come_last(tmp_path):
    """A causal convolution over time with its buffer, as in streaming audio networks."""
    model = graph(
        """g (float[B,3,T] x, float[B,3,2] buffer) => (float[B,5,T] y, float[B,3,2] buffer_out) {
            whole = Concat<axis = 2>(buffer, x)
            y = Conv<kernel_shape = [3]>(whole, K)
            buffer_out = Slice(whole, start, end, axis)
        }""",
        {
            "K": random(5, 3, 3),
            "start": np.array([-2]),
            "end": np.array([2**62]),
            "axis": np.array([2]),
        },
    )
    report, runner = adopted(model, tmp_path)
    assert report.proposal.form == "sequence"
    assert (report.proposal.inputs[0].batch_axis, report.proposal.inputs[0].time_axis) == (0, 2)
    assert report.batchable
    (answer,), _ = runner.advance([{"x": random(7, 3)}], [runner.new_state()])
    assert answer["y"].shape == (7, 5)


def test_rows_need_no_axis(tmp_path):
    model = graph(
        """g (float[4] x, float[4] h) => (float[4] y, float[4] h_out) {
            r = MatMul(h, R)  s = Add(x, r)  h_out = Tanh(s)  y = Neg(h_out)
        }""",
        {"R": random(4, 4)},
    )
    report, runner = adopted(model, tmp_path)
    assert report.max_batch == 1
    assert report.proposal.pairs[0].batch_axis is None
    (answer,), _ = runner.advance([{"x": random(3, 4)}], [runner.new_state()])
    assert answer["y"].shape == (3, 4)


def test_inputs_of_a_logarithm_are_tried_with_what_it_takes(tmp_path):
    model = graph(
        """g (float[B,4] x, float[B,4] h) => (float[B,4] y, float[B,4] h_out) {
            l = Log(x)  r = MatMul(h, R)  s = Add(l, r)  h_out = Tanh(s)  y = Neg(h_out)
        }""",
        {"R": random(4, 4)},
    )
    report, _ = adopted(model, tmp_path)
    assert pairs_of(report) == {"h": "h_out"}
    assert all(check.passed for check in report.checks)


def windowed():
    """A graph that takes any number of values a step that it can cut 4 windows of 4 from."""
    return graph(
        f"""g (float[B,N] x, float[B,{H}] h) => (float[B,{H}] y, float[B,{H}] h_out) {{
            wide = Unsqueeze(x, one)
            c = Conv<kernel_shape = [4], strides = [4]>(wide, K)
            p = MaxPool<kernel_shape = [4], strides = [4]>(c)
            v = Squeeze(p, two)
            r = MatMul(h, R)  s = Add(v, r)  h_out = Tanh(s)  y = Neg(h_out)
        }}""",
        {
            "R": random(H, H),
            "K": random(H, 1, 4),
            "one": np.array([1]),
            "two": np.array([2]),
        },
    )


def test_an_axis_that_counts_neither_rows_nor_steps_is_found_by_trying(tmp_path):
    """From 16 to 31 values run: of the powers of two, one."""
    report, _ = adopted(windowed(), tmp_path)
    assert list(report.manifest.inputs[0].shape) == [16]
    assert "--size x:1=16" in report.command
    assert "axis 1 of 'x'" in report.proposal.notes[0]


def test_an_axis_of_any_size_is_asked_for(tmp_path):
    model = graph(
        """g (float[B,N] x, float[B,4] h) => (float[B,4] y, float[B,4] h_out) {
            m = ReduceMean<axes = [1]>(x)
            r = MatMul(h, R)  s = Add(m, r)  h_out = Tanh(s)  y = Neg(h_out)
        }""",
        {"R": random(4, 4)},
    )
    with pytest.raises(ExporterError, match="--size x:1=SIZE"):
        adopted(model, tmp_path)
    report, _ = adopted(model, tmp_path, Options(sizes=(Size("x", 1, 8),)))
    assert list(report.manifest.inputs[0].shape) == [8]


def test_context_is_kept_as_a_state(tmp_path):
    """Of a network whose input begins with the end of the step before."""
    model = graph(
        f"""g (float[B,5] x, float[B,{H}] h) => (float[B,{H}] y, float[B,{H}] h_out) {{
            w = MatMul(x, W)  r = MatMul(h, R)  s = Add(w, r)  h_out = Tanh(s)  y = Neg(h_out)
        }}""",
        {"W": random(5, H), "R": random(H, H)},
    )
    report, runner = adopted(model, tmp_path, Options(contexts=(Context("x", 2),)))
    assert list(report.manifest.inputs[0].shape) == [3]
    assert {s.name: list(s.shape) for s in report.manifest.states} == {
        "h": [H],
        "x_context": [2],
    }
    x = random(4, 3)
    _, (state,) = runner.advance([{"x": x}], [runner.new_state()])
    np.testing.assert_array_equal(state["x_context"], x[-1, -2:])


def test_context_may_be_the_only_state(tmp_path):
    model = graph(
        "g (float[B,5] x) => (float[B,2] y) { w = MatMul(x, W)  y = Tanh(w) }",
        {"W": random(5, 2)},
    )
    _, runner = adopted(model, tmp_path, Options(contexts=(Context("x", 2),)))
    x = random(2, 3)
    (answer,), _ = runner.advance([{"x": x}], [runner.new_state()])
    whole = np.concatenate([x[0, -2:], x[1]])
    np.testing.assert_allclose(answer["y"][1], np.tanh(whole @ random(5, 2)), rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, H), (1, H)], ids=["as in the file", "without the batch"])
def test_a_first_state_other_than_zeros(tmp_path, shape):
    first = np.arange(H, dtype=np.float32).reshape(shape) / 10
    report, runner = adopted(lstm_step(), tmp_path, Options(initial={"c0": first}))
    np.testing.assert_array_equal(runner.new_state()["c0"], first.reshape(1, H))
    assert not np.any(runner.new_state()["h0"])
    assert all(check.passed for check in report.checks)


def test_a_first_state_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ExporterError, match=r"'c0' the shape \[7\].* \[1, 6\]"):
        adopted(lstm_step(), tmp_path, Options(initial={"c0": np.zeros(7)}))


def test_real_samples_are_compared_too(tmp_path):
    report, _ = adopted(lstm_step(), tmp_path, Options(samples={"x": random(40, 3, scale=9)}))
    assert [check.name for check in report.checks][-1] == "the original, on samples"


def test_the_proposal_can_be_declined_and_stated(tmp_path):
    report, _ = adopted(lstm_step(), tmp_path)
    assert report.proposal.proposed
    assert "--state h0=hn:1 --state c0=cn:1" in report.command
    report, _ = adopted(lstm_step(), tmp_path, stated("h0=hn:1", "c0=cn:1"))
    assert not report.proposal.proposed


def test_an_input_that_goes_on_in_an_answer_is_no_state(tmp_path):
    """A connection past the network: each element of x moves one of y, as a cell state would."""
    model = graph(
        """g (float[B,4] x, float[B,4] u, float[B,4] h)
            => (float[B,4] y, float[B,4] h_out) {
            w = MatMul(u, W)  r = MatMul(h, R)  s = Add(w, r)  h_out = Tanh(s)  y = Add(x, h_out)
        }""",
        {"R": random(4, 4), "W": random(4, 4, seed=1)},
    )
    assert pairs_of(adopted(model, tmp_path)[0]) == {"h": "h_out"}


def skipping(x: str, y: str, h: str, h_out: str):
    """A recurrent cell of plain operators beside a skip connection from input to answer."""
    return graph(
        f"""g (float[B,8] {x}, float[B,3] cond, float[B,{H}] {h})
            => (float[B,8] {y}, float[B,{H}] {h_out}) {{
            both = Concat<axis = 1>(cond, {h})
            s = MatMul(both, W)
            {h_out} = Tanh(s)
            d = MatMul({h_out}, V)
            {y} = Add({x}, d)
        }}""",
        {"W": random(3 + H, H), "V": random(H, 8, seed=1)},
    )


@pytest.mark.parametrize("names", ["input output h h_out", "mic enh h hn", "a b p q"])
def test_an_input_that_goes_on_in_an_answer_is_not_taken_for_a_state(tmp_path, names):
    x, y, h, h_out = names.split()
    model = skipping(x, y, h, h_out)
    with pytest.raises(ExporterError, match="skip connection") as caught:
        adopted(model, tmp_path)
    assert f"--state {x}={y} --state {h}={h_out} or --state {h}={h_out}" in str(caught.value)
    for pairs in ([f"{h}={h_out}"], [f"{x}={y}", f"{h}={h_out}"]):
        report, _ = adopted(model, tmp_path, stated(*pairs))
        assert pairs_of(report) == dict(pair.split("=") for pair in pairs)


def test_two_contexts_of_one_input_are_refused(tmp_path):
    options = Options(contexts=(Context("x", 1), Context("x", 2)))
    with pytest.raises(ExporterError, match="'x' is in two --context"):
        adopted(lstm_step(), tmp_path, options)
