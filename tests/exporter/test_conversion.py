import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.v1 import manifest_pb2, tensor_pb2
from carousel.wire import MANIFEST_KEY
from carousel_exporter import conversion, equality, layers
from carousel_exporter.conversion import Labels
from carousel_exporter.errors import SettingsError, VerificationError
from carousel_exporter.manifest import load_model, read_manifest
from carousel_exporter.network import RecurrentNetwork
from carousel_exporter.source import Source

from .builders import make_model, make_network


def open_session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def feeds(network, x, lengths, state=None):
    state = state or {
        name: value.numpy() for name, value in network.initial_state(x.shape[1]).items()
    }
    return {"x": x, "sequence_lens": np.array(lengths, np.int32), **state}


def run_torch(network: RecurrentNetwork, x):
    with torch.inference_mode():
        y, state = network(torch.from_numpy(x))
    return y.numpy(), {name: value.numpy() for name, value in state.items()}


def assert_equal(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("features", [1, 5, 16])
@pytest.mark.parametrize("hidden", [8, 64, 256])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_model_file_answers_as_pytorch_does(tmp_path, layers, hidden, features):
    in_changes = (layers + features) % 2 == 0
    network = make_network(
        features=features,
        hidden=hidden,
        layers=layers,
        outputs=2 if features > 1 else 1,
        targets=((0, features - 1) if features > 1 else (0,)) if in_changes else None,
    )
    path = make_model(tmp_path / "m.onnx", network)
    x = np.random.default_rng(0).normal(size=(20, 3, features)).cumsum(axis=0).astype(np.float32)
    lengths = [20, 7, 1]
    session = open_session(path)
    names = [value.name for value in session.get_outputs()]
    found = dict(zip(names, session.run(names, feeds(network, x, lengths)), strict=True))
    for row, length in enumerate(lengths):
        y, state = run_torch(network, x[:length, row : row + 1])
        assert_equal(found["y"][:length, row], y[:, 0])
        for name, value in state.items():
            assert_equal(found[f"{name}_out"][row], value[0])


@pytest.fixture(scope="module")
def in_changes(tmp_path_factory):
    """A network in changes mode with two layers, and a session on its model file."""
    network = make_network(features=2, layers=2, targets=(1,))
    path = make_model(tmp_path_factory.mktemp("changes") / "m.onnx", network)
    return network, open_session(path)


@settings(max_examples=25, deadline=None)
@given(
    ticks=st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=5
    ),
    padding=st.sampled_from([0.0, -1e4, np.inf]),
)
def test_changes_are_taken_over_ragged_chunks_as_over_the_whole(in_changes, ticks, padding):
    network, session = in_changes
    names = [value.name for value in session.get_outputs()]
    totals = np.sum(ticks, axis=0)
    rng = np.random.default_rng(0)
    rows = [300 + rng.normal(size=(n, 2)).cumsum(axis=0).astype(np.float32) for n in totals]
    state, done, answers = None, [0, 0, 0], [[], [], []]
    for lengths in ticks:
        x = np.full((max(lengths), 3, 2), padding, np.float32)
        for row, length in enumerate(lengths):
            x[:length, row] = rows[row][done[row] : done[row] + length]
        values = session.run(names, feeds(network, x, lengths, state))
        found = dict(zip(names, values, strict=True))
        state = {name.removesuffix("_out"): found[name] for name in names if name != "y"}
        for row, length in enumerate(lengths):
            answers[row].append(found["y"][:length, row])
            done[row] += length
            # Exactly the last input: a sum over steps would round.
            np.testing.assert_array_equal(state["previous"][row], rows[row][done[row] - 1])
    assert (state["seen"] == 1).all()
    for row in range(3):
        y, end = run_torch(network, rows[row][:, None])
        assert_equal(np.concatenate(answers[row]), y[:, 0])
        for name, value in end.items():
            assert_equal(state[name][row], value[0])


def test_a_sessions_first_step_beside_a_running_one(in_changes):
    network, session = in_changes
    x = np.float32([[[310, 320], [410, 420]]])  # (T=1, B=2, F=2)
    fresh = {n: v.numpy().copy() for n, v in network.initial_state(2).items()}
    fresh["previous"][1] = [409, 421]
    fresh["seen"][1] = 1
    (y,) = session.run(["y"], feeds(network, x, [1, 1], fresh))
    constant, _ = run_torch(network, np.repeat(x[:, :1], 2, axis=0))
    assert_equal(y[0, 0], constant[0, 0])
    two, _ = run_torch(network, np.stack([np.float32([[310, 320]]), x[0, :1]]))
    assert_equal(two[0], constant[0])
    with torch.inference_mode():
        expected, _ = network(
            torch.from_numpy(x), {n: torch.from_numpy(v) for n, v in fresh.items()}
        )
    assert_equal(y, expected.numpy())
    assert abs(expected[0, 1, 0] - 420) > 1e-3  # the change of the running one is seen


def test_the_file_is_in_the_canonical_form(tmp_path):
    network = make_network(features=3, hidden=8, layers=2, targets=(0,))
    model = load_model(make_model(tmp_path / "m.onnx", network))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version <= 21
    assert model.ir_version <= 10  # the newest that ONNX Runtime 1.20 reads
    assert sum(node.op_type == "LSTM" for node in model.graph.node) == 2
    assert not {"GatherND", "If", "Loop", "Scan"} & {node.op_type for node in model.graph.node}

    def dims(values):
        return {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in values
        }

    states = {"previous": 3, "seen": 1, "h0": 8, "c0": 8, "h1": 8, "c1": 8}
    assert dims(model.graph.input) == {
        "x": ["T", "B", 3],
        "sequence_lens": ["B"],
        **{name: ["B", size] for name, size in states.items()},
    }
    assert dims(model.graph.output) == {
        "y": ["T", "B", 1],
        **{f"{name}_out": ["B", size] for name, size in states.items()},
    }


def test_the_manifest_says_it_all(tmp_path):
    source = Source(
        make_network(features=2, targets=(1,)),
        columns=("a", "b"),
        answers=("b",),
        unit="ppm",
        horizon=4,
        provenance={"seed": "0"},
    )
    path = tmp_path / "m.onnx"
    conversion.convert(source, path, Labels("co2", description="Looks ahead."))
    model = load_model(path)
    assert '"sequence_lens"' in {p.key: p.value for p in model.metadata_props}[MANIFEST_KEY]
    manifest = read_manifest(model, path)
    assert (manifest.format, manifest.name, manifest.horizon) == (1, "co2", 4)
    assert manifest.form == manifest_pb2.MODEL_FORM_SEQUENCE
    assert manifest.description == "Looks ahead."
    assert manifest.sequence_lens == "sequence_lens"
    assert manifest.max_batch == 0
    (x,), (y,) = manifest.inputs, manifest.outputs
    f4 = tensor_pb2.DATA_TYPE_FLOAT32
    assert (x.name, x.dtype, list(x.shape), list(x.columns), x.unit) == (
        "x",
        f4,
        [2],
        ["a", "b"],
        "",  # the columns need not share the answer's unit
    )
    assert (y.name, y.dtype, list(y.shape), list(y.columns), y.unit) == ("y", f4, [1], ["b"], "ppm")
    assert [(s.name, s.output, list(s.shape)) for s in manifest.states] == [
        ("previous", "previous_out", [2]),
        ("seen", "seen_out", [1]),
        ("h0", "h0_out", [8]),
        ("c0", "c0_out", [8]),
    ]
    assert all(s.dtype == f4 and s.description and not s.initial for s in manifest.states)
    assert manifest.provenance["seed"] == "0"
    assert {"carousel-export", "onnx", "onnxruntime"} <= set(manifest.provenance)


def test_an_lstm_alone_needs_no_other_arithmetic(tmp_path):
    network = make_network(outputs=0, bias=False)
    for side in ("input", "output"):
        getattr(network, f"{side}_mean").zero_()
        getattr(network, f"{side}_scale").fill_(1)
    model = load_model(make_model(tmp_path / "m.onnx", network))
    operators = {node.op_type for node in model.graph.node}
    assert operators == {"LSTM", "Squeeze", "Unsqueeze", "Identity"}


def test_nothing_is_written_where_the_numbers_are_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "onnx_gates", lambda weight, places: weight)  # PyTorch's order kept
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the old one")
    with pytest.raises(VerificationError, match=r"was not written.*PyTorch"):
        make_model(path, make_network())
    assert path.read_bytes() == b"the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_large_output_scale_is_no_error(tmp_path):
    network = make_network()
    network.output_scale.fill_(1e5)
    source = Source(network, statistics={"y": {"scale": [1e5]}})
    assert conversion.convert(source, tmp_path / "m.onnx", Labels("m")).passed


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Labels("m", columns=("a",)), "--columns must name 2 columns, not 1"),
        (Labels("m", answers=("a", "b")), "--answers must name 1 column, not 2"),
        (Labels("m", columns=("a", "a")), "--columns names 'a' twice"),
        (Labels("m", horizon=3), "trained to look 4 steps ahead: --horizon 3"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, words):
    with pytest.raises(SettingsError, match=words):
        conversion.describe(Source(make_network(), horizon=4), labels)


def test_the_proof_covers_each_way_of_running(tmp_path):
    source = Source(make_network())
    report = conversion.convert(source, tmp_path / "m.onnx", Labels("m"))
    assert [check.name for check in report.checks] == [
        "one step at a time",
        "random chunks",
        "all rows in one batch",
        "ragged batches, random order",
        "PyTorch",
    ]
    assert all(check.states is not None for check in report.checks)
    worst = dataclasses.astuple(report.checks[-1].outputs)
    assert worst[1] <= worst[2] == equality.TOLERANCE[4]
