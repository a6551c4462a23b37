"""Files that can't be adopted: a sentence that says why, and no file left behind."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.exporter.refused import good, model, node, saved
from tests.exporter.zoo.build import build
from tests.exporter.zoo.recipe import Recipe

SPARSE_BYTES = 2**31 + 10


# Files that are none, or not whole.


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "There is no file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "not an ONNX file"),
        (lambda path: path.write_text("these are no weights\n"), "not an ONNX file"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "not an ONNX file"),
        (lambda path: path.write_bytes(np.arange(999.0).tobytes()), "not an ONNX file"),
    ],
    ids=["missing", "folder", "empty", "text", "picture", "numbers"],
)
def test_what_is_no_onnx_file(tmp_path, refused, make, words):
    path = tmp_path / "theirs.onnx"
    make(path)
    assert words in refused(path)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_file_that_was_cut_off(tmp_path, refused, share):
    content = good().SerializeToString()
    path = tmp_path / "theirs.onnx"
    path.write_bytes(content[: int(share * len(content))])
    assert str(path) in refused(path)


def test_a_file_of_more_than_two_gigabytes(tmp_path, refused):
    path = tmp_path / "theirs.onnx"
    with path.open("wb") as file:
        file.truncate(SPARSE_BYTES)  # takes no room on the disk
    assert f"{SPARSE_BYTES:,} bytes" in refused(path)


def test_weights_beside_it_of_more_than_two_gigabytes(tmp_path, refused):
    path = saved(tmp_path, outside("weights.bin", length=0))
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(SPARSE_BYTES)
    assert "one ONNX file can hold" in refused(path)


# Weights in other files.


def outside(location: str, *, offset: int = 0, length: int = 1 << 10) -> onnx.ModelProto:
    """Return a good graph one of whose weights lies elsewhere."""
    made = good()
    weight = max(made.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    told = {"location": location, "offset": str(offset), "length": str(length)}
    for key, value in told.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    return made


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("weights.bin", "there is no such file"),
        ("../secret.bin", "outside of its own folder"),
        ("{absolute}", "outside of its own folder"),
        ("link.bin", "outside of its own folder"),
        ("", "outside of its own folder"),
        ("short.bin", "which has 3"),
    ],
)
def test_weights_that_are_not_beside_the_file(tmp_path, refused, location, words):
    folder = tmp_path / "folder"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(1 << 10))
    (folder / "link.bin").symlink_to(secret)
    (folder / "short.bin").write_bytes(b"abc")
    path = saved(folder, outside(location.format(absolute=secret)))
    assert words in refused(path)


# Graphs that can't be run, or not be streamed.


def test_operators_of_somebody_s_own(tmp_path, refused):
    made = model(
        [node("Secret", "x h", "y h_out", domain="com.example")],
        {"x": ["B", 3], "h": ["B", 3]},
        {"y": ["B", 3], "h_out": ["B", 3]},
    )
    assert "com.example.Secret" in refused(saved(tmp_path, made))


def test_nodes_that_need_each_other(tmp_path, refused):
    made = model(
        [node("Add", "x b", "a"), node("Add", "a h", "b"), node("Identity", "b", "h_out")],
        {"x": ["B", 3], "h": ["B", 3]},
        {"a": ["B", 3], "h_out": ["B", 3]},
    )
    assert "not a valid ONNX file" in refused(saved(tmp_path, made))


def test_sizes_that_do_not_fit_together(tmp_path, refused):
    made = model(
        [node("MatMul", "x w", "y"), node("Add", "y h", "h_out")],
        {"x": ["B", 3], "h": ["B", 5]},
        {"y": ["B", 5], "h_out": ["B", 5]},
        {"w": np.ones((4, 5), np.float32)},
    )
    assert "can't load the graph" in refused(saved(tmp_path, made))


def test_a_network_without_a_state(tmp_path, refused):
    made = model(
        [node("MatMul", "x w", "a"), node("Tanh", "a", "y")],
        {"x": ["B", 3]},
        {"y": ["B", 5]},
        {"w": np.ones((3, 5), np.float32)},
    )
    assert "state" in refused(saved(tmp_path, made))


def test_a_recurrent_layer_that_keeps_its_state_to_itself(tmp_path, refused):
    rng = np.random.default_rng(0)
    made = model(
        [node("LSTM", "x W R", "y", hidden_size=4)],
        {"x": ["T", "B", 3]},
        {"y": ["T", 1, "B", 4]},
        {
            "W": rng.normal(size=(1, 16, 3)).astype(np.float32),
            "R": rng.normal(size=(1, 16, 4)).astype(np.float32),
        },
    )
    assert "state" in refused(saved(tmp_path, made))


def test_a_state_that_grows(tmp_path, refused):
    """What a decoder of tokens keeps: one more place for every step."""
    made = model(
        [
            node("Unsqueeze", "x one", "x3"),
            node("Concat", "past x3", "present", axis=1),
            node("ReduceMean", "present", "y", axes=[1], keepdims=0),
        ],
        {"x": ["B", 3], "past": ["B", "P", 3]},
        {"y": ["B", 3], "present": ["B", "P+1", 3]},
        {"one": np.array([1])},
    )
    assert "past" in refused(saved(tmp_path, made))


@pytest.mark.parametrize("direction", ["bidirectional", "reverse"])
def test_a_layer_that_runs_backwards(tmp_path, refused, direction):
    both = 1 + (direction == "bidirectional")
    rng = np.random.default_rng(0)
    made = model(
        [node("GRU", "x W R  h".replace("  ", " none none "), "y h_out", **_gru(direction))],
        {"x": ["T", "B", 3], "h": [both, "B", 4]},
        {"y": ["T", both, "B", 4], "h_out": [both, "B", 4]},
        {
            "W": rng.normal(size=(both, 12, 3)).astype(np.float32),
            "R": rng.normal(size=(both, 12, 4)).astype(np.float32),
        },
    )
    made.graph.node[0].input[3] = made.graph.node[0].input[4] = ""
    error = refused(saved(tmp_path, made))
    assert "backwards" in error
    assert "can't be streamed" in error


def _gru(direction: str) -> dict:
    return {"hidden_size": 4, "linear_before_reset": 1, "direction": direction}


def test_an_answer_that_needs_the_future(tmp_path, refused):
    """A mean over the whole of what came in one run: it is another for every cut."""
    looping = build(Recipe(form="time_major")).model
    made = onnx.ModelProto()
    made.CopyFrom(looping)
    (y,) = [n for n in made.graph.node if n.output[0] == "y"]
    made.graph.node.extend(
        [
            node("ReduceMean", y.input[0], "whole", axes=[0], keepdims=1),
            node("Add", f"{y.input[0]} whole", "y"),
        ]
    )
    made.graph.node.remove(y)
    assert "'y'" in refused(saved(tmp_path, made))


def test_text_can_not_be_streamed(tmp_path, refused):
    made = model(
        [node("Identity", "x", "y"), node("Identity", "h", "h_out")],
        {"x": ["B", 3], "h": ["B", 3]},
        {"y": ["B", 3], "h_out": ["B", 3]},
        dtype=TensorProto.STRING,
    )
    assert "string" in refused(saved(tmp_path, made))
