"""Files that can't be adopted: a sentence that says why, and no file left behind."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from carousel_exporter.cli import main
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


# Graphs that never answer alike, that are too large to try, or that fail by themselves.


def cell(answer: list[onnx.NodeProto], **more) -> onnx.ModelProto:
    nodes = [node("Add", "x h", "s"), node("Tanh", "s", "h_out"), *answer]
    shapes = {"x": ["B", 32], "h": ["B", 32]}
    return model(nodes, shapes, {"y": ["B", 32], "h_out": ["B", 32]}, **more)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        ([node("RandomNormalLike", "s", "r", name="noise")], "RandomNormalLike 'noise' draws"),
        ([node("RandomUniformLike", "s", "r", seed=3.0)], "RandomUniformLike 'r' draws"),
        ([node("Dropout", "h_out half yes", "y", name="drop")], "Dropout 'drop' draws"),
    ],
    ids=["normal", "seeded", "dropout"],
)
def test_answers_that_are_never_the_same_twice(tmp_path, refused, draw, words):
    constants = {"half": np.float32(0.5), "yes": np.array(True)}
    last = [] if draw[0].output[0] == "y" else [node("Add", "h_out r", "y")]
    theirs = cell([*draw, *last], constants=constants)
    assert words in refused(saved(tmp_path, theirs), "--yes")


def test_chance_that_is_multiplied_by_nothing_is_no_matter(tmp_path):
    draw = [node("RandomNormalLike", "s", "r"), node("Mul", "r none", "n")]
    theirs = cell([*draw, node("Add", "h_out n", "y")], constants={"none": np.float32(0)})
    out = tmp_path / "model.onnx"
    assert main(["adopt", str(saved(tmp_path, theirs)), "--yes", "--out", str(out)]) == 0


@pytest.mark.parametrize("size", [2**31, 2**25])
def test_rows_that_are_too_large_to_try(tmp_path, refused, size):
    nodes = [node("Add", "x h", "h_out"), node("ReduceMean", "h_out", "y", axes=[1])]
    shapes = {"x": ["B", size], "h": ["B", size]}
    theirs = model(nodes, shapes, {"y": ["B", 1], "h_out": ["B", size]})
    error = refused(saved(tmp_path, theirs), "--yes")
    assert f"{4 * size:,} bytes a row" in error
    assert "--size" not in error


def test_sizes_that_are_too_large_to_try(tmp_path, refused):
    assert "bytes a row" in refused(saved(tmp_path, good()), "--size", f"x:0={10**20}", "--yes")


def test_a_state_that_all_rows_share(tmp_path, refused):
    shapes = {"x": ["B", 4], "count": []}
    nodes = [node("Add", "count one", "count_out"), node("Mul", "x count", "y")]
    outputs = {"y": ["B", 4], "count_out": []}
    theirs = model(nodes, shapes, outputs, {"one": np.float32(1)})
    error = refused(saved(tmp_path, theirs), "--yes")
    assert "'count_out' seems to be its next value" in error


def test_an_original_that_zeros_bring_to_nothing(tmp_path, refused):
    """A deviation that is divided by, and begins with 0."""
    nodes = [
        node("Mul", "x x", "square"),
        node("Add", "var square", "var_out"),
        node("Sqrt", "var", "deviation"),
        node("Div", "x deviation", "y"),
    ]
    shapes = {"x": ["B", 4], "var": ["B", 4]}
    theirs = saved(tmp_path, model(nodes, shapes, {"y": ["B", 4], "var_out": ["B", 4]}))
    error = refused(theirs, "--state", "var=var_out")
    assert "itself gives 'y' values that are not finite" in error
    assert "--init" in error
    np.save(tmp_path / "ones.npy", np.ones((1, 4)))
    flags = ["--state", "var=var_out", "--init", f"var={tmp_path / 'ones.npy'}"]
    assert main(["adopt", str(theirs), *flags, "--out", str(tmp_path / "good.onnx")]) == 0


def test_what_is_no_plain_file(refused):
    assert "no plain file" in refused(Path("/dev/zero"))


def test_colons_in_messages_stay_colons(tmp_path, refused):
    assert "h=h_out:-1:" in refused(saved(tmp_path, good()), "--state", "h=h_out:-1")
