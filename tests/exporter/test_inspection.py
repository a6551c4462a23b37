import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from carousel_exporter import costs
from carousel_exporter.errors import ModelFileError
from carousel_exporter.inspection import inspect

from .builders import make_model, make_network
from .mutants import rigid_model, step_model


def test_figures_are_those_of_the_equations(tmp_path):
    F, H, O = 3, 16, 2  # noqa: E741
    network = make_network(features=F, hidden=H, layers=2, outputs=O)
    found = inspect(make_model(tmp_path / "m.onnx", network))
    assert found.multiply_adds == 4 * H * (F + H) + 4 * H * (H + H) + H * O
    assert found.flops == 2 * found.multiply_adds
    assert found.state_bytes == 4 * (H + H) * 2
    scaling = 2 * F + 2 * O
    assert found.parameters == sum(p.numel() for p in network.parameters()) + scaling
    assert found.opset == 17
    assert found.operators["LSTM"] == 2
    assert found.file_bytes == (tmp_path / "m.onnx").stat().st_size


def test_other_forms_are_read_too(tmp_path):
    assert inspect(step_model(tmp_path / "s.onnx")).state_bytes == 16
    assert inspect(rigid_model(tmp_path / "r.onnx")).multiply_adds == 0


def test_weights_in_nodes_and_convolutions_count(tmp_path):
    """As in files of others: weights that Constant nodes hold, in any shape, moved before use."""
    weights = {
        "k": np.ones((4, 1, 3), np.float32),
        "w": np.ones((4, 5), np.float32),
        "w0": np.ones((20,), np.float32),
    }
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
        for name, array in weights.items()
    ]
    nodes = [
        helper.make_node("Constant", [], ["two"], value_ints=[5, 4]),
        helper.make_node("Reshape", ["w0", "two"], ["v"]),
        helper.make_node("Conv", ["x", "k"], ["c"]),  # (B, 4, 6): 4 x 3 weights at 6 places
        helper.make_node("ReduceMean", ["c"], ["m"], axes=[2], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["p"]),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, ["B", 1, 8])]
    outputs = [helper.make_tensor_value_info("y", 1, ["B", 4])]
    graph = helper.make_graph([*constants, *nodes], "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert costs.parameters(model.graph) == 12 + 20 + 20
    assert costs.multiply_adds(model) == 12 * 6 + 20 + 20


def test_a_file_without_manifest_is_said_to_have_none(tmp_path):
    path = rigid_model(tmp_path / "r.onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {})
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match="has no manifest"):
        inspect(path)


def test_a_damaged_manifest_is_said_to_be(tmp_path):
    path = rigid_model(tmp_path / "r.onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"carousel.manifest": "{"})
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"manifest of .* can't be read"):
        inspect(path)


@pytest.mark.parametrize("byte", [b"\xff", b"\x01"])
def test_a_manifest_with_a_changed_byte_is_one_sentence(tmp_path, byte):
    path = rigid_model(tmp_path / "r.onnx")
    content = path.read_bytes()
    assert content.count(b'"dtype"')
    path.write_bytes(content.replace(b'"dtype"', b'"dt' + byte + b'pe"'))
    with pytest.raises(
        ModelFileError, match=r"manifest of .*r\.onnx (is damaged|can't be read)"
    ) as e:
        inspect(path)
    assert "\n" not in str(e.value)


def test_weights_that_do_not_fit_their_shape_are_told(tmp_path):
    path = make_model(tmp_path / "m.onnx", make_network())
    model = onnx.load(path)
    model.graph.initializer[0].dims[0] += 1
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"m\.onnx is damaged: .*size"):
        inspect(path)


def test_weights_that_did_not_come_along_are_told(tmp_path):
    path = make_model(tmp_path / "m.onnx", make_network())
    outside = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(onnx.load(path), path, **outside)
    inspect(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelFileError, match=r"m\.onnx keeps its weights in a file beside it"):
        inspect(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\xff\xff not onnx")
    with pytest.raises(ModelFileError, match=r"is not an ONNX file.*begins with '.* not onnx'"):
        inspect(path)
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="is empty, and a model file"):
        inspect(path)
    with pytest.raises(ModelFileError, match="no file"):
        inspect(tmp_path / "gone.onnx")


def test_inspecting_and_verifying_import_no_torch():
    code = (
        "import sys, carousel_exporter.cli, carousel_exporter.inspection, "
        "carousel_exporter.verification; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
