"""Model files that can't be served are refused, each with a sentence of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import json_format
from onnx import TensorProto, helper

from carousel import wire
from carousel.v1 import manifest_pb2, tensor_pb2
from carousel_server.errors import ModelFileError
from carousel_server.runtime.manifest import read_model
from tests.support import models


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_model(path)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert "\n" not in caught.value.reason
    return caught.value.reason


def refused(folder: Path, content: bytes | onnx.ModelProto) -> str:
    """Return why a file with that content is refused."""
    path = folder / "model.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return refusal(path)


def changed(change) -> onnx.ModelProto:
    """Return a good model whose manifest was changed."""
    made = models.running_sum()
    (entry,) = made.metadata_props
    manifest = json_format.Parse(entry.value, manifest_pb2.ModelManifest())
    change(manifest)
    entry.value = json_format.MessageToJson(manifest)
    return made


def set_to(path: str, value):
    """Return a change of one field: "inputs.name"."""

    def change(manifest):
        *parents, name = path.split(".")
        for parent in parents:
            manifest = getattr(manifest, parent)[0]
        if isinstance(value, list):
            del getattr(manifest, name)[:]
            getattr(manifest, name).extend(value)
        else:
            setattr(manifest, name, value)

    return change


def test_a_good_file(tmp_path):
    made = models.lstm()
    file = read_model(models.put(tmp_path, made))
    assert [state.name for state in file.spec.states] == ["h0", "c0", "h1", "c1"]
    assert file.spec.time_axis
    assert file.spec.ragged
    assert file.spec.state_bytes == 4 * 8 * 4
    assert len(file.sha256) == 64


def test_initial_states_and_bounds_are_read(tmp_path):
    begin = np.array([3, 4], "<f4")

    def change(manifest):
        manifest.states[0].initial = begin.tobytes()
        manifest.max_batch = 5

    spec = read_model(models.put(tmp_path, changed(change))).spec
    np.testing.assert_array_equal(spec.states[0].initial, begin)
    assert spec.max_batch == 5


def meaning(kind, change):
    """Return a language model's file, with its input or output changed."""
    made = models.language()
    (entry,) = made.metadata_props
    manifest = json_format.Parse(entry.value, manifest_pb2.ModelManifest())
    change(getattr(manifest, kind)[0])
    entry.value = json_format.MessageToJson(manifest)
    return made


def test_symbols_and_classes_are_kept_to_be_told(tmp_path):
    manifest = read_model(models.put(tmp_path, models.language("ab\n"))).manifest
    assert list(manifest.inputs[0].symbols) == list(manifest.outputs[0].columns) == ["a", "b", "\n"]
    assert manifest.outputs[0].content == manifest_pb2.TENSOR_CONTENT_LOG_PROBABILITIES


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        (
            "inputs",
            lambda spec: spec.symbols.append("c"),
            "its manifest gives 'x' 4 symbols, which needs the maximum 3, not 2",
        ),
        (
            "inputs",
            lambda spec: spec.ClearField("minimum"),
            "its manifest gives 'x' 3 symbols, and no minimum of 0",
        ),
        (
            "inputs",
            lambda spec: spec.symbols.__setitem__(2, "a"),
            "its manifest gives 'x' the symbol 'a' twice",
        ),
        (
            "inputs",
            lambda spec: setattr(spec, "content", manifest_pb2.TENSOR_CONTENT_PROBABILITIES),
            "its manifest gives 'x' probabilities that are not floats",
        ),
        (
            "outputs",
            lambda spec: spec.columns.__setitem__(2, "a"),
            "its manifest gives 'y' the class 'a' twice",
        ),
        (
            "outputs",
            lambda spec: spec.columns.pop(),
            "its manifest gives 'y' probabilities of 3 classes, and the names of 2 (columns)",
        ),
    ],
)
def test_symbols_and_classes_that_contradict_themselves(tmp_path, kind, change, reason):
    assert refused(tmp_path, meaning(kind, change)) == reason


def test_files_that_are_none(tmp_path):
    assert refused(tmp_path, b"\xff" * 100) == "this is no ONNX file, or not a whole one"
    assert refused(tmp_path, b"") == "this is no ONNX file, or its graph has no nodes"
    assert refusal(tmp_path / "nosuch.onnx") == "it can't be read: No such file or directory"
    assert refusal(tmp_path) == "it can't be read: Is a directory"


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, kept):
    content = models.lstm().SerializeToString()
    reason = refused(tmp_path, content[: int(len(content) * kept)])
    assert reason == "this is no ONNX file, or not a whole one"


def test_a_graph_without_nodes(tmp_path):
    made = models.running_sum()
    del made.graph.node[:]
    assert refused(tmp_path, made) == "this is no ONNX file, or its graph has no nodes"


def test_weights_in_other_files(tmp_path):
    made = models.lstm()
    onnx.external_data_helper.set_external_data(made.graph.initializer[0], location="weights.bin")
    assert refused(tmp_path, made) == (
        "its weights lie in other files; a model is one file: save it without external data"
    )


def test_no_manifest(tmp_path):
    made = models.running_sum()
    del made.metadata_props[:]
    assert refused(tmp_path, made) == (
        "its metadata has no 'carousel.manifest', so its states are not known; make it with "
        "carousel-export"
    )


def test_a_newer_manifest_with_fields_that_are_not_known(tmp_path):
    made = models.running_sum()
    helper.set_model_props(made, {wire.MANIFEST_KEY: '{"format": 2, "nosuch": [1]}'})
    assert refused(tmp_path, made) == "its manifest has format 2, this server knows 1"


@pytest.mark.parametrize("text", ["", "{", "null", '{"inputs": {}}', '{"maxBatch": -1}'])
def test_a_manifest_that_is_none(tmp_path, text):
    made = models.running_sum()
    helper.set_model_props(made, {wire.MANIFEST_KEY: text})
    assert refused(tmp_path, made).startswith("its manifest can't be read: ")


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("format", 2, "its manifest has format 2, this server knows 1"),
        ("format", 0, "its manifest has format 0, this server knows 1"),
        ("inputs", [], "its manifest declares no inputs"),
        ("outputs", [], "its manifest declares no outputs"),
        ("states", [], "its manifest declares no states"),
        (
            "form",
            0,
            "its manifest does not say whether the graph loops over time (form)",
        ),
        (
            "sequence_lens",
            "lengths",
            "its manifest names sequence_lens, but its form is one step a run",
        ),
        (
            "inputs.name",
            "z",
            "its manifest declares the input 'z'; the graph has ['s', 'x']",
        ),
        (
            "outputs.name",
            "z",
            "its manifest declares the output 'z'; the graph has ['s_out', 'y']",
        ),
        (
            "states.output",
            "z",
            "its manifest declares the output 'z'; the graph has ['s_out', 'y']",
        ),
        (
            "inputs.dtype",
            tensor_pb2.DATA_TYPE_FLOAT64,
            "input 'x' is float64 in its manifest and float32 in its graph",
        ),
        (
            "outputs.dtype",
            tensor_pb2.DATA_TYPE_INT8,
            "output 'y' is int8 in its manifest and float32 in its graph",
        ),
        ("inputs.dtype", 0, "its manifest gives 'x' no dtype that this server knows"),
        (
            "inputs.shape",
            [3],
            "input 'x' has [3] a step in its manifest and [0, 2] (0: any) in its graph, batch on "
            "axis 0",
        ),
        (
            "states.shape",
            [2, 1],
            "input 's' has [2, 1] a step in its manifest and [0, 2] (0: any) in its graph, batch "
            "on axis 0",
        ),
        (
            "inputs.shape",
            [0],
            "its manifest gives 'x' the shape [0]; all dimensions but time and batch are fixed "
            "and positive",
        ),
        (
            "states.initial",
            b"abc",
            "its manifest gives state 's' 3 bytes to begin with; 8 were expected",
        ),
        (
            "states.initial",
            np.array([np.nan, 0], "<f4").tobytes(),
            "its manifest lets state 's' begin with a value that is not finite",
        ),
        (
            "inputs.symbols",
            ["a", "b"],
            "its manifest gives 'x' 2 symbols, and only integers stand for symbols",
        ),
        (
            "outputs.content",
            manifest_pb2.TENSOR_CONTENT_PROBABILITIES,
            "its manifest gives 'y' probabilities of 2 classes, and the names of 0 (columns)",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_its_graph(tmp_path, field, value, sentence):
    assert refused(tmp_path, changed(set_to(field, value))) == sentence


@pytest.mark.parametrize("what", ["inputs", "outputs", "states"])
def test_names_that_are_declared_twice(tmp_path, what):
    def change(manifest):
        declared = getattr(manifest, what)
        declared.append(declared[0])

    name = {"inputs": "x", "outputs": "y", "states": "s"}[what]
    assert refused(tmp_path, changed(change)) == f"its manifest declares {name!r} twice"


def test_a_sequence_model_in_step_form(tmp_path):
    reason = refused(tmp_path, changed(set_to("form", models.SEQUENCE)))
    assert reason.endswith("batch on axis 1")


def test_an_input_that_the_manifest_does_not_declare(tmp_path):
    made = models.running_sum()
    made.graph.input.append(helper.make_tensor_value_info("sr", TensorProto.INT64, []))
    assert refused(tmp_path, made) == (
        "its graph has inputs that its manifest does not declare: ['sr']"
    )


def test_an_input_whose_type_is_no_tensors(tmp_path):
    made = models.running_sum()
    made.graph.input[0].CopyFrom(
        helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    )
    assert (
        refused(tmp_path, made) == "input 'x' is float32 in its manifest and no tensor in its graph"
    )
