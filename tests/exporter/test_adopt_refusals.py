"""Files that can't be adopted, and things said of files that aren't so: a sentence, and no file."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from carousel_exporter.cli import main
from tests.exporter.zoo.build import build
from tests.exporter.zoo.recipe import Recipe

SPARSE_BYTES = 2**31 + 10


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def refused(tmp_path, capsys) -> Callable[..., str]:
    """Adopt a file with flags, and return the sentence with which that is refused."""

    def adopt(path: Path, *flags: str) -> str:
        out = tmp_path / "out" / "model.onnx"
        status = main(["adopt", str(path), *flags, "--yes", "--out", str(out)])
        error = capsys.readouterr().err
        assert status == 1, error
        assert error.startswith("error: "), error
        assert error.count("\n") == 1, error
        assert "Traceback" not in error
        assert not out.parent.exists() or not list(out.parent.iterdir())
        return error

    return adopt


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "theirs.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list],
    outputs: dict[str, list],
    constants: dict[str, np.ndarray] | None = None,
    *,
    dtype: int = TensorProto.FLOAT,
    opset: int = 17,
) -> onnx.ModelProto:
    """Return a graph, unchecked: what is wrong with it is for others to find out."""

    def infos(values):
        return [helper.make_tensor_value_info(n, dtype, dims) for n, dims in values.items()]

    weights = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "theirs", infos(inputs), infos(outputs), weights)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def node(kind: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def good() -> onnx.ModelProto:
    return build(Recipe(layers=2)).model


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


# Things said of a good file that aren't so.


def test_the_good_file_is_taken_with_flags_that_are_so(tmp_path):
    path, out = saved(tmp_path, good()), tmp_path / "model.onnx"
    states = ["--state", "h=h_out:1", "--state", "c=c_out:1"]
    assert main(["adopt", str(path), *states, "--out", str(out)]) == 0
    assert out.is_file()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--state", "h"], ["--state takes IN=OUT"]),
        (["--state", "gone=h_out", "--state", "c=c_out"], ["'gone'", "'h'"]),
        (["--state", "h=gone", "--state", "c=c_out"], ["'gone'", "'h_out'"]),
        (["--state", "h=h_out", "--state", "h=c_out"], ["'h' is in two --state"]),
        (["--state", "h=h_out", "--state", "c=h_out"], ["'h_out' is in two --state"]),
        (["--state", "h=h_out:7", "--state", "c=c_out"], ["axis 7", "'h'"]),
        (["--state", "h=h_out:0", "--state", "c=c_out"], ["'h'"]),
        (["--state", "h=h_out", "--state", "c=y"], ["'y'", "'c'"]),
        (["--state", "h=h_out"], ["'c'"]),
        (["--constant", "gone=1"], ["'gone'"]),
        (["--constant", "x=loud"], ["'x'", "loud"]),
        (["--context", "gone=2"], ["'gone'"]),
        (["--context", "x=99"], ["99", "'x'"]),
        (["--context", "x=0"], ["--context"]),
        (["--size", "x:9=2"], ["axis 9", "'x'"]),
        (["--init", "h=gone.npy"], ["gone.npy"]),
        (["--constant", "x=1", "--constant", "x=2"], ["'x' twice"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_flags_that_are_not_so(tmp_path, refused, flags, words):
    error = refused(saved(tmp_path, good()), *flags)
    assert all(word in error for word in words), error


def _with(**changes) -> Recipe:
    return Recipe(layers=2, layout=("BH",), **changes)


@pytest.mark.parametrize(
    ("recipe", "pairs", "words"),
    [
        # A graph that loops over time carries its own states in a long run.
        (Recipe(layers=2, form="time_major"), "h=c_out c=h_out", r"by \d.*e-05 is allowed"),
        # An LSTM's c goes on element by element, and h doesn't.
        (Recipe(layers=2), "h=c_out c=h_out", r"'c': 0% .* 100% do in 'c_out'"),
        (Recipe(cell="plain_lstm"), "h=c_out c=h_out", r"'c': 0% .* 100% do in 'c_out'"),
        # The first layer can't depend on the second one's state.
        (_with(cell="gru", form="batch_first"), "h0=h1_out h1=h0_out", "changes it by 0"),
        (_with(cell="plain_gru"), "h0=h1_out h1=h0_out", "changes it by 0"),
        (_with(cell="plain_rnn"), "h0=h1_out h1=h0_out", "changes it by 0"),
        # The operator itself can be run over several steps.
        (
            Recipe(cell="gru", layout=("BH",), extras=frozenset({"features"})),
            "h0=features",
            r"differs by \d.*e-05 is allowed",
        ),
        # An output that is the state that came is none.
        (
            Recipe(layout=("BH",), extras=frozenset({"delay"})),
            "h0=h0_out c0=c0_out last_x=before",
            r"always equals what went in as 'last_x' \(difference 0\)",
        ),
    ],
    ids=str,
)
def test_wrong_pairs_are_refused_with_the_numbers_that_show_it(
    tmp_path, refused, recipe, pairs, words
):
    flags = [word for pair in pairs.split() for word in ("--state", pair)]
    assert re.search(words, refused(saved(tmp_path, build(recipe).model), *flags))


def test_a_state_that_was_left_out_is_named(tmp_path, refused):
    made = build(Recipe(layout=("BH",), extras=frozenset({"counter"}))).model
    error = refused(saved(tmp_path, made), "--state", "h0=h0_out", "--state", "c0=c0_out")
    assert "add --state seen=seen_out" in error


def test_the_original_is_not_written_over(tmp_path, capsys):
    path = saved(tmp_path, good())
    before = path.read_bytes()
    assert main(["adopt", str(path), "--yes", "--out", str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert path.read_bytes() == before
