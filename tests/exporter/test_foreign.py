import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import nn

from carousel_exporter import foreign, recognition
from carousel_exporter.conversion import Labels, convert
from carousel_exporter.errors import CheckpointError, SettingsError
from carousel_exporter.source import Scaling, read_source


class Theirs(nn.Module):
    """A network as others write it: batch first, with names of its own."""

    def __init__(self, *, bias=True):
        super().__init__()
        self.rnn = nn.LSTM(3, 8, 2, batch_first=True, bias=bias)
        self.fc = nn.Linear(8, 2, bias=bias)

    def forward(self, x):
        top, _ = self.rnn(x)
        return self.fc(top)


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    return Theirs().eval()


def answers(path, x, **options):
    """Convert a file and run whole sequences, (B, T, F) to (B, T, O), through the model file."""
    out = path.with_suffix(".onnx")
    convert(read_source(path, **options), out, Labels("theirs"))
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    feeds = {
        value.name: np.zeros((len(x), value.shape[1]), np.float32)
        for value in session.get_inputs()
        if value.name[0] in "hc"
    }
    feeds["x"] = np.ascontiguousarray(x.transpose(1, 0, 2))
    feeds["sequence_lens"] = np.full(len(x), x.shape[1], np.int32)
    return session.run(["y"], feeds)[0].transpose(1, 0, 2)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_batch_first_network_of_others_answers_alike(tmp_path, suffix, bias):
    torch.manual_seed(1)
    theirs = Theirs(bias=bias).eval()
    path = tmp_path / f"theirs{suffix}"
    save = safetensors.torch.save_file if suffix == ".safetensors" else torch.save
    save(theirs.state_dict(), path)
    # As many rows as steps: a transposed axis would pass unseen by shapes.
    x = np.random.default_rng(0).normal(size=(9, 9, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(
        answers(path, x, renames=["fc=head"]), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("wrapped", "renames"),
    [
        (lambda d: d, ["fc=head"]),
        (lambda d: d, ["rnn=lstm", "fc.weight=head.weight", "fc.bias=head.bias"]),
        (lambda d: {f"module.{k}": v for k, v in d.items()}, ["module=", "module.fc=head"]),
        (lambda d: {"state_dict": d, "epoch": 3}, ["fc=head"]),
        (lambda d: {"model_state_dict": d}, ["fc=head"]),
        (lambda d: {"model": d, "epoch": 3, "optimizer": {"state": {0: 1}}}, ["fc=head"]),
    ],
)
def test_keys_are_found_whatever_they_are_under(tmp_path, theirs, wrapped, renames):
    path = tmp_path / "theirs.pt"
    torch.save(wrapped(dict(theirs.state_dict())), path)
    found = read_source(path, renames).network
    assert found.architecture.layers == 2
    assert torch.equal(found.head.weight, theirs.fc.weight)
    assert torch.equal(found.lstm.weight_hh_l1, theirs.rnn.weight_hh_l1)


def test_a_bare_lstm_in_half_precision_is_read_as_float32(tmp_path):
    lstm = nn.LSTM(3, 4).half()
    path = tmp_path / "bare.pt"
    torch.save(lstm.state_dict(), path)
    found = read_source(path).network
    assert found.architecture.outputs == 0
    assert found.lstm.weight_ih_l0.dtype == torch.float32
    assert torch.equal(found.lstm.weight_ih_l0, lstm.weight_ih_l0.float())


def test_a_scaling_goes_into_the_model_file(tmp_path, theirs):
    path = tmp_path / "theirs.pt"
    torch.save(theirs.state_dict(), path)
    x = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(x)).numpy() * [10, 20] + [-1, 5]
    scaling = Scaling((100, 0, 1), (4, 2, 1), (-1, 5), (10, 20))
    plain = (x * np.float32([4, 2, 1]) + np.float32([100, 0, 1])).astype(np.float32)
    found = answers(path, plain, renames=["fc=head"], scaling=scaling)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def dictionary(**changes):
    tensors = dict(Theirs().state_dict())
    for old, new in (("rnn", "lstm"), ("fc", "head")):
        tensors = {key.replace(old, new): value for key, value in tensors.items()}
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    return tensors


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (nn.LSTM(3, 4, bidirectional=True).state_dict(), ["bidirectional", "weight_ih_l0_reverse"]),
        (nn.GRU(3, 4, bidirectional=True).state_dict(), ["bidirectional", "not come yet"]),
        (dictionary(lstm__weight_hh_l0=torch.ones(16, 8)), ["[16, 8]", "[4*H, H]", "[3*H, H]"]),
        (dictionary(lstm__weight_hr_l1=torch.ones(4, 8)), ["'lstm.weight_hr_l1'"]),
        (
            dictionary(embedding__weight=torch.ones(9, 4)),
            ["'embedding.weight'", "[9, 3]", "[9, 4]"],
        ),
        (
            dictionary(head__extra__weight=torch.ones(1, 8)),
            ["without a name beside 'head.extra'", "--map OLD=head.NAME"],
        ),
        (nn.Linear(3, 4).state_dict(), ["nn.LSTM", "weight, bias"]),
        ({}, ["none"]),
        (dictionary(lstm__bias_hh_l1=None), ["'lstm.bias_hh_l1' is missing", "[32]"]),
        (dictionary(lstm__weight_hh_l0=None), ["'lstm.weight_hh_l0' is missing"]),
        (dictionary(head__weight=None), ["'head.weight' is missing"]),
        (dictionary(lstm__weight_ih_l1=torch.ones(32, 9)), ["[32, 8]", "[32, 9]", "ih_l1"]),
        (dictionary(head__bias=torch.ones(3)), ["'head.bias'", "[2]", "[3]"]),
        (dictionary(norm__weight=torch.ones(3)), ["'norm.weight'", "[3]"]),
        (dictionary(lstm__weight_ih_l3=torch.ones(32, 8)), ["'lstm.weight_ih_l2' is missing"]),
        (dictionary(head__bias=torch.ones(2, dtype=torch.int8)), ["'head.bias'", "int8"]),
        (dictionary(head__bias=torch.tensor([1, torch.nan])), ["'head.bias'", "not finite"]),
        (dictionary(epoch=3), ["'epoch'", "of type int"]),
        (
            {f"{name}.{key}": v for name in "ab" for key, v in nn.LSTM(3, 4).state_dict().items()},
            ["several recurrent layers", "'a', 'b'", "--map NAME=lstm (or gru, or rnn)"],
        ),
    ],
)
def test_each_refusal_names_the_key_and_says_why(tensors, words):
    with pytest.raises(CheckpointError) as caught:
        recognition.recognise(tensors)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("layers", "nonlinearity", "words"),
    [
        (nn.RNN(3, 4), None, "plain RNN.*don't tell.*--nonlinearity tanh or relu"),
        (nn.RNN(3, 4), "sigmoid", "takes tanh or relu, not 'sigmoid'"),
        (nn.GRU(3, 4), "tanh", "this is a GRU: leave it out"),
        (nn.LSTM(3, 4), "relu", "this is an LSTM: leave it out"),
    ],
)
def test_what_a_plain_rnn_squashes_with_must_be_said_and_of_no_other(layers, nonlinearity, words):
    with pytest.raises(SettingsError, match=words):
        recognition.recognise(layers.state_dict(), nonlinearity)


def test_an_unnamed_head_is_suggested(theirs):
    with pytest.raises(CheckpointError, match="add --map fc=head"):
        recognition.recognise(theirs.state_dict())


@pytest.mark.parametrize(
    ("renames", "words"),
    [
        (["fc"], "OLD=NEW"),
        (["=head"], "OLD=NEW"),
        (["fc=head", "fc=top"], "twice"),
        (["gone=head"], r"gone=… fits no key; the keys are rnn\.weight_ih_l0"),
        (["fc.weight=a", "fc.bias=a"], "two keys the name 'a'"),
    ],
)
def test_what_is_wrong_with_a_map_is_said(theirs, renames, words):
    with pytest.raises(SettingsError, match=words):
        foreign.rename(theirs.state_dict(), foreign.parse_renames(renames))


@pytest.mark.parametrize(
    ("scaling", "words"),
    [
        (Scaling(mean=(1.0,)), "--mean must give 3 numbers, one a column, not 1"),
        (Scaling(scale=(1.0, 0.0, 1.0)), "--scale must not hold a 0"),
        (Scaling(output_scale=(1.0,)), "--output-scale must give 2 numbers"),
    ],
)
def test_what_is_wrong_with_a_scaling_is_said(tmp_path, theirs, scaling, words):
    path = tmp_path / "theirs.pt"
    torch.save(theirs.state_dict(), path)
    with pytest.raises(SettingsError, match=words):
        read_source(path, ["fc=head"], scaling)


def test_broken_safetensors_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="safetensors"):
        read_source(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"model": {"a": torch.ones(1)}, "ema": {"a": torch.ones(1)}},
            "level down, 'model', 'ema'",
        ),
        ({"model": {0: torch.ones(1)}}, "has the key 0"),
        ({0: torch.ones(1)}, "has the key 0"),
    ],
)
def test_a_dictionary_that_is_no_state_dict_is_told(content, words):
    with pytest.raises(CheckpointError, match=words):
        foreign.unwrap(content)


def test_tensors_beside_a_dictionary_are_the_state_dict_themselves():
    content = {"lstm.weight": torch.ones(1), "extra": {"a": torch.ones(1)}}
    assert foreign.unwrap(content) == content
