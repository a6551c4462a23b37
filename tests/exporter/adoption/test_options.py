"""What is said on a command line is read, and said back."""

import numpy as np
import pytest

from carousel_exporter.adoption import Context, Options, Size, StatePair
from carousel_exporter.adoption.constants import to_array
from carousel_exporter.adoption.evidence import is_data_like, is_state_like, likeness
from carousel_exporter.adoption.options import command_line, read_arrays
from carousel_exporter.adoption.ports import Port
from carousel_exporter.errors import SettingsError


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (StatePair, "h=hn", StatePair("h", "hn")),
        (StatePair, "h=hn:1", StatePair("h", "hn", 1)),
        (StatePair, "h:0=hn:0:-1", StatePair("h:0", "hn:0", -1)),
        (StatePair, "a/h=b/c:x", StatePair("a/h", "b/c:x")),
        (Context, "x=64", Context("x", 64)),
        (Context, "x=64:2", Context("x", 64, 2)),
        (Size, "x:1=576", Size("x", 1, 576)),
        (Size, "x:0:1=576", Size("x:0", 1, 576)),
    ],
)
def test_flags_are_read_and_said_back(kind, text, expected):
    assert kind.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (StatePair, "h"),
        (StatePair, "=hn"),
        (StatePair, "h="),
        (Context, "x=many"),
        (Context, "x=0"),
        (Size, "x=5"),
        (Size, "x:1=0"),
        (Size, "x:1=a"),
    ],
)
def test_other_flags_are_refused(kind, text):
    with pytest.raises(SettingsError, match="--"):
        kind.parse(text)


def test_the_command_is_quoted_where_it_must_be():
    options = Options(constants={"sr": "16000"}, name="my model")
    command = command_line(
        "a b.onnx", "m.onnx", states=[StatePair("h", "n")], sizes=[], options=options
    )
    assert command.startswith("carousel-export adopt 'a b.onnx' --constant sr=16000 --state h=n")
    assert "'my model'" in command


@pytest.mark.parametrize(
    ("value", "dtype", "dims", "expected"),
    [
        ("16000", np.int64, (), np.array(16000)),
        ("1", np.float32, (1,), np.array([1.0])),
        ("1,2", np.float32, ("n:0", 2), None),
        ("1,2", np.float32, (2,), np.array([1.0, 2.0])),
        ("true", np.bool_, (), np.array(1, bool)),
        ("1.5", np.int64, (), None),
        ("loud", np.float32, (), None),
        ("maybe", np.bool_, (), None),
        ("300", np.uint8, (), None),
        ("1,2,3", np.float32, (2,), None),
    ],
)
def test_a_constant_takes_the_input_s_type_and_shape(value, dtype, dims, expected):
    port = Port("k", np.dtype(dtype), dims)
    if dims == ("n:0", 2):
        assert to_array(port, value).shape == (1, 2)
    elif expected is None:
        with pytest.raises(SettingsError, match="--constant k="):
            to_array(port, value)
    else:
        found = to_array(port, value)
        assert (found.dtype, found.shape) == (np.dtype(dtype), expected.shape)
        np.testing.assert_array_equal(found, expected)


def test_arrays_are_read_and_others_refused(tmp_path):
    np.save(tmp_path / "h.npy", np.ones(3))
    np.save(tmp_path / "words.npy", np.array(["a"]))
    np.savez(tmp_path / "two.npz", a=np.ones(1), b=np.ones(1))
    (tmp_path / "text.npy").write_text("no array")
    assert read_arrays("--init", [f"h={tmp_path}/h.npy"])["h"].shape == (3,)
    for name in ("words.npy", "two.npz", "text.npy", "gone.npy"):
        with pytest.raises(SettingsError, match=name):
            read_arrays("--init", [f"h={tmp_path / name}"])


@pytest.mark.parametrize(
    "pair",
    [("h0", "hn"), ("h_in", "h_out"), ("state", "stateN"), ("past_key.1", "present_key.1")],
)
def test_names_of_one_state_are_alike(pair):
    assert likeness(*pair) >= 0.7


@pytest.mark.parametrize(
    "pair", [("h0", "cn"), ("h1", "h2_out"), ("input_3", "tf_op_layer_stack"), ("input", "output")]
)
def test_names_of_two_things_are_not(pair):
    assert likeness(*pair) < 0.7


def test_names_that_sound_like_states_and_data():
    assert all(map(is_state_like, ["h0", "conv_cache_3", "prev_x", "rnn_state", "hidden"]))
    assert not any(map(is_state_like, ["x", "audio", "features"]))
    assert is_data_like("audio_in", output=False)
    assert is_data_like("logits", output=True)
