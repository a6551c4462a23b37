"""Networks of every kind, from a state_dict: the model file equals the very module in PyTorch."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from carousel.v1 import tensor_pb2
from carousel_exporter import cells, checkpoint
from carousel_exporter.cli import main
from carousel_exporter.conversion import Labels, convert
from carousel_exporter.errors import CheckpointError, SettingsError, VerificationError
from carousel_exporter.initialisation import initialise
from carousel_exporter.inspection import inspect
from carousel_exporter.manifest import load_model, read_manifest
from carousel_exporter.network import Architecture, RecurrentNetwork
from carousel_exporter.source import Scaling, read_source

from .builders import make_series, write_csv
from .networks import WORDS, Stack, Tagger, assert_equal, run_torch, seeded, stream

STEPS, ROWS = 23, 4
MAP = ["fc=head"]
TAGGER = ["emb=embedding", "tag=head.tag", "score=head.score"]


def converted(folder, network, renames=MAP, *, scaling=None, nonlinearity=None, **labels):
    weights, path = folder / "theirs.pt", folder / "model.onnx"
    torch.save(network.state_dict(), weights)
    source = read_source(weights, renames, scaling, nonlinearity=nonlinearity)
    assert convert(source, path, Labels("theirs", **labels)).passed
    return path


def observations(*, seed=0):
    return np.random.default_rng(seed).normal(size=(STEPS, ROWS, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "options", "nonlinearity"),
    [
        ("LSTM", {"layers": 3}, None),
        ("LSTM", {"proj_size": 5}, None),
        ("LSTM", {"proj_size": 1, "layers": 3}, None),
        ("LSTM", {"proj_size": 7, "layers": 1, "bias": False}, None),
        ("GRU", {}, None),
        ("GRU", {"layers": 1, "hidden": 3}, None),  # as many units as features
        ("GRU", {"layers": 3, "bias": False}, None),
        ("RNN", {}, "tanh"),
        ("RNN", {"bias": False}, "tanh"),
        ("RNN", {"nonlinearity": "relu"}, "relu"),
        ("RNN", {"nonlinearity": "relu", "layers": 1}, "relu"),
        ("GRU", {"batch_first": True}, None),
        ("LSTM", {"batch_first": True, "proj_size": 5}, None),
    ],
)
def test_every_kind_answers_as_the_module_itself(tmp_path, kind, options, nonlinearity):
    network = seeded(Stack, kind, **options)
    path = converted(tmp_path, network, nonlinearity=nonlinearity)
    x = observations()
    if options.get("batch_first"):
        expected = run_torch(network, x.transpose(1, 0, 2))[0].transpose(1, 0, 2)
    else:
        expected = run_torch(network, x)[0]
    assert_equal(stream(path, x=x)["y"], expected)


def test_a_gru_whose_reset_gate_acts_too_early_is_refused(tmp_path, monkeypatch):
    """ONNX's other variant: the same weights, another network."""
    network = seeded(Stack, "GRU")
    node = next(
        n for n in load_model(converted(tmp_path, network)).graph.node if n.op_type == "GRU"
    )
    assert {a.name: a.i for a in node.attribute}["linear_before_reset"] == 1
    (tmp_path / "model.onnx").unlink()
    monkeypatch.setitem(cells.GRU.attributes, "linear_before_reset", 0)
    with pytest.raises(VerificationError, match=r"was not written.*PyTorch: '.*' is off by"):
        converted(tmp_path, network)
    assert not (tmp_path / "model.onnx").exists()


def test_the_wrong_nonlinearity_is_another_network(tmp_path):
    network = seeded(Stack, "RNN", nonlinearity="relu")
    x = observations()
    found = stream(converted(tmp_path, network, nonlinearity="tanh"), x=x)["y"]
    assert np.abs(found - run_torch(network, x)[0]).max() > 0.01


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), kind=st.sampled_from(["P", "GRU"])
)
def test_rows_of_all_lengths_share_a_run(tmp_path_factory, lengths, kind):
    """Straight through ONNX Runtime: states are those after each row's own last step."""
    folder = tmp_path_factory.mktemp("rows")
    network = seeded(Stack, "LSTM", proj_size=5) if kind == "P" else seeded(Stack, kind)
    session = onnxruntime.InferenceSession(
        converted(folder, network), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(len(lengths))
    x = rng.normal(size=(max(lengths), len(lengths), 3)).astype(np.float32)
    feeds = {"x": x, "sequence_lens": np.array(lengths, np.int32)}
    for value in session.get_inputs():
        if value.name not in feeds:
            feeds[value.name] = np.zeros((len(lengths), value.shape[1]), np.float32)
    names = [value.name for value in session.get_outputs()]
    found = dict(zip(names, session.run(names, feeds), strict=True))
    for row, length in enumerate(lengths):
        with torch.inference_mode():
            y, state = network(torch.from_numpy(x[:length, row : row + 1]))
        assert_equal(found["y"][:length, row], y[:, 0].numpy())
        h, c = state if kind == "P" else (state, None)
        for layer in range(2):
            assert_equal(found[f"h{layer}_out"][row], h[layer, 0].numpy())
            if c is not None:
                assert_equal(found[f"c{layer}_out"][row], c[layer, 0].numpy())


def test_a_projection_is_a_scan_in_the_canonical_form(tmp_path):
    path = converted(tmp_path, seeded(Stack, "LSTM", proj_size=5))
    model = load_model(path)
    onnx.checker.check_model(model, full_check=True)
    manifest = read_manifest(model, path)
    assert manifest.sequence_lens == "sequence_lens"
    assert [(s.name, list(s.shape)) for s in manifest.states] == [
        ("h0", [5]),
        ("c0", [8]),
        ("h1", [5]),
        ("c1", [8]),
    ]
    # W, R and the projection of each layer, and the head.
    layers = (4 * 8 * 3 + 4 * 8 * 5 + 5 * 8) + (4 * 8 * 5 + 4 * 8 * 5 + 5 * 8)
    assert inspect(path).multiply_adds == layers + 5 * 2


@pytest.mark.parametrize(("kind", "states"), [("GRU", ["h0", "h1"]), ("RNN", ["h0", "h1"])])
def test_kinds_without_a_cell_state_have_none(tmp_path, kind, states):
    path = converted(tmp_path, seeded(Stack, kind), nonlinearity="tanh" if kind == "RNN" else None)
    manifest = read_manifest(load_model(path), path)
    assert [state.name for state in manifest.states] == states


def test_an_embedding_and_several_heads(tmp_path):
    network = seeded(Tagger)
    path = converted(tmp_path, network, TAGGER, answers=("a", "b", "c", "d", "score"))
    tokens = np.random.default_rng(0).integers(0, WORDS, (STEPS, ROWS))
    tag, score, _ = run_torch(network, tokens)
    found = stream(path, x=tokens)
    assert_equal(found["tag"], tag)
    assert_equal(found["score"], score)
    manifest = read_manifest(load_model(path), path)
    (x,) = manifest.inputs
    assert (x.dtype, list(x.shape)) == (tensor_pb2.DATA_TYPE_INT64, [])
    assert (x.HasField("minimum"), x.minimum, x.maximum) == (True, 0, WORDS - 1)
    assert [(y.name, list(y.shape), list(y.columns)) for y in manifest.outputs] == [
        ("tag", [4], ["a", "b", "c", "d"]),
        ("score", [1], ["score"]),
    ]


def test_a_scaling_of_several_heads_is_theirs_in_order(tmp_path):
    network = seeded(Tagger)
    scaling = Scaling(output_mean=(1, 2, 3, 4, 5), output_scale=(1, 1, 1, 1, -3))
    path = converted(tmp_path, network, TAGGER, scaling=scaling)
    tokens = np.random.default_rng(0).integers(0, WORDS, (STEPS, ROWS))
    tag, score, _ = run_torch(network, tokens)
    found = stream(path, x=tokens)
    assert_equal(found["tag"], tag + np.float32([1, 2, 3, 4]))
    assert_equal(found["score"], -3 * score + 5)


@pytest.mark.parametrize(
    ("renames", "options", "error", "words"),
    [
        (TAGGER, {"columns": ("a",)}, SettingsError, "--columns names columns, and the input is"),
        (TAGGER, {"scaling": Scaling(mean=(1.0,))}, SettingsError, "takes token ids"),
        (TAGGER, {"scaling": Scaling(output_scale=(1.0,))}, SettingsError, "must give 5 numbers"),
        (TAGGER, {"answers": ("a",)}, SettingsError, "--answers must name 5 columns"),
        (TAGGER[:2], {}, CheckpointError, r"'score.weight' .*add --map score=head\.score\."),
        (TAGGER[1:], {}, CheckpointError, "'emb.weight' .*add --map emb=embedding"),
        ([*TAGGER[:2], "score=head.h0"], {}, SettingsError, "head can't be called 'h0'"),
        ([*TAGGER[:2], "score=head.layer0"], {}, SettingsError, "head can't be called 'layer0'"),
    ],
)
def test_what_does_not_fit_a_tagger_is_told(tmp_path, renames, options, error, words):
    with pytest.raises(error, match=words):
        converted(tmp_path, seeded(Tagger), renames, **options)
    assert not (tmp_path / "model.onnx").exists()


def test_another_networks_heads_are_told_apart(tmp_path, capsys):
    path = converted(tmp_path, seeded(Tagger), TAGGER)
    against = ["verify", str(path), "--against", str(tmp_path / "theirs.pt")]
    maps = [word for pair in TAGGER for word in ("--map", pair)]
    assert main([*against, *maps]) == 0
    capsys.readouterr()
    maps[-1] = "score=head.other"
    assert main([*against, *maps]) == 1
    assert "answers tag, other, and the model file tag, score" in capsys.readouterr().err


def test_plain_rnns_on_the_command_line(tmp_path, capsys):
    weights, path = tmp_path / "theirs.pt", tmp_path / "model.onnx"
    torch.save(nn.RNN(3, 4, nonlinearity="relu").state_dict(), weights)
    convert = ["convert", str(weights), "--out", str(path)]
    assert main(convert) == 1
    assert "--nonlinearity tanh or relu" in capsys.readouterr().err
    assert main([*convert, "--nonlinearity", "relu"]) == 0
    assert main(["verify", str(path), "--against", str(weights), "--nonlinearity", "relu"]) == 0
    assert main(["verify", str(path), "--against", str(weights), "--nonlinearity", "tanh"]) == 1


@pytest.mark.parametrize(("cell", "kept"), [("gru", slice(8, 16)), ("rnn", slice(0, 0))])
def test_other_cells_begin_with_a_long_memory(cell, kept):
    """PyTorch's gates are r, z, n; where z is open, h stays."""
    network = RecurrentNetwork(Architecture(features=3, hidden=8, layers=2, outputs=1, cell=cell))
    initialise(network)
    for name, weight in network.recurrent.named_parameters():
        if name.startswith("weight_hh"):
            for gate in weight.detach().split(8):
                torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)
        elif name.startswith("bias"):
            expected = torch.zeros_like(weight)
            expected[kept] = float(name.startswith("bias_ih"))
            assert torch.equal(weight, expected)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_are_trained_and_converted(tmp_path, capsys, cell):
    series = write_csv(tmp_path / "s.csv", make_series(200))
    out, path = tmp_path / "a.pt", tmp_path / "a.onnx"
    quick = ["--window", "16", "--batch", "4", "--hidden", "8", "--epochs", "3", "--layers", "2"]
    train = ["train", "--data", str(series), "--target", "a", *quick, "--cell", cell]
    assert main([*train, "--out", str(out)]) == 0
    assert f"{cell.upper()}'s MAE is" in " ".join(capsys.readouterr().out.split())
    kept = checkpoint.load(out)
    assert kept.network.architecture.cell == kept.facts["cell"] == cell
    assert main(["convert", str(out), "--out", str(path)]) == 0
    assert main(["verify", str(path), "--against", str(out), "--data", str(series)]) == 0
    capsys.readouterr()
    assert main([*train[:-1], "lstn", "--out", str(out)]) == 1
    assert "cell must be lstm or gru or rnn, not 'lstn'" in capsys.readouterr().err
