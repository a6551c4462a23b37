"""Reading programs and exporting them; what becomes of the ONNX file is test_program_files.py's."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from carousel_exporter import programs
from carousel_exporter.adoption import StatePair
from carousel_exporter.errors import CheckpointError, ModelFileError, SettingsError
from carousel_exporter.programs import Example, Program
from carousel_exporter.programs.exporting import export_newer, export_older, mend
from carousel_exporter.programs.program import Kind

from .networks import save_exported, save_script
from .programs import Recurrent, Speller

HERE = Path(__file__).with_name("programs.py")
RECURRENT = ["x=T,B,3", "h=2,B,8"]


def load(name, examples, **options):
    return programs.load(f"{HERE}:{name}", examples=examples, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=T,B,16", Example("x", ("T", "B", 16))),
        ("x=float64:B,3", Example("x", ("B", 3), "float64")),
        ("x=B,4,T", Example("x", ("B", 4, "T"))),
        ("tokens=int64:T,B:0..999", Example("tokens", ("T", "B"), "int64", (0, 999))),
        ("t=int32:B:-2..-1", Example("t", ("B",), "int32", (-2, -1))),
        ("state.0=2,B,8", Example("state.0", (2, "B", 8))),
        ("rate=int64:", Example("rate", (), "int64")),
    ],
)
def test_examples_are_read(text, expected):
    assert Example.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "takes NAME="),
        ("x=", "takes NAME="),
        ("=T,B", "takes NAME="),
        ("x=T,B,0", "sizes being numbers, T"),
        ("x=T,N,3", "sizes being numbers, T"),
        ("x=float8:T,B", "takes NAME="),
        ("x=T,B:0..3", "bounds, which are for integers"),
        ("x=int64:T,B:3..0", "LEAST..GREATEST, such as 0..999, not '3..0'"),
        ("x=int64:T,B:a..b", "LEAST..GREATEST"),
        ("x=int64:T:B", "takes NAME="),
    ],
)
def test_what_is_wrong_with_an_example_is_said(text, words):
    with pytest.raises(SettingsError, match=words):
        Example.parse(text)


def test_arguments_are_put_in_the_order_of_forward():
    program = load("Speller", ["state.0=2,B,8", "state.1=2,B,8", "tokens=int64:B,T:0..29"])
    assert program.inputs == ("tokens", "state.0", "state.1")
    assert program.outputs == ("out0", "out1", "out2")
    named = load("Recurrent", RECURRENT, outputs=["y", "h_new"])
    assert named.outputs == ("y", "h_new")


def test_a_function_gives_the_arguments():
    program = load("Speller", ["examples"])
    assert program.inputs == ("tokens", "state.0", "state.1")
    assert program.examples[0] == Example("tokens", ("B", "T"), "int64", (0, 29))
    program = load("Cell", ["tensors"])
    assert [example.dims for example in program.examples] == [(1, 3), (1, 8)]


def test_modules_are_found_by_their_import_path(tmp_path, monkeypatch):
    (tmp_path / "nets_of_others.py").write_text(HERE.read_text())
    monkeypatch.chdir(tmp_path)
    program = programs.load("nets_of_others:Recurrent", examples=RECURRENT)
    assert program.origin["program"] == "nets_of_others:Recurrent"
    assert len(program.origin["program_sha256"]) == 64


def test_weights_are_loaded_into_a_module(tmp_path):
    theirs = Recurrent()
    torch.nn.init.normal_(theirs.fc.weight)
    path = tmp_path / "w.pt"
    torch.save({f"module.{k}": v for k, v in theirs.state_dict().items()}, path)
    program = load("Recurrent", RECURRENT, weights=path, renames=["module="])
    assert torch.equal(program.call.fc.weight, theirs.fc.weight)
    with pytest.raises(CheckpointError, match=r"doesn't fit the module: .*[Mm]issing key"):
        load("Recurrent", RECURRENT, weights=path)


def run_both(program, path):
    """Return the largest difference between an exported file and its program."""
    inputs = program.example_tensors()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {n: x.numpy() for n, x in zip(program.inputs, inputs, strict=True)}
    found = session.run(list(program.outputs), feeds)
    pairs = zip(found, program.run(inputs), strict=True)
    return max(float(np.abs(a - b.numpy()).max()) for a, b in pairs)


@pytest.mark.parametrize(
    ("export", "name", "examples"),
    [
        (export_older, "Recurrent", RECURRENT),
        (export_older, "Speller", ["examples"]),
        (export_older, "Cell", ["x=B,3", "h=B,8"]),
        # torch.export may or may not fix the steps of PyTorch's own layers, as it happens.
        (export_newer, "Recurrent", ["x=1,B,3", "h=2,B,8"]),
        (export_newer, "Speller", ["tokens=int64:B,1:0..29", "state.0=2,B,8", "state.1=2,B,8"]),
        (export_newer, "Cell", ["x=B,3", "h=B,8"]),
    ],
)
def test_both_exporters_keep_the_numbers_and_the_names(tmp_path, export, name, examples):
    program, path = load(name, examples), tmp_path / "m.onnx"
    export(program, path)
    mend(path, ())
    assert run_both(program, path) <= 1e-6
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == list(program.inputs)
    assert [value.name for value in graph.output] == list(program.outputs)


@pytest.mark.parametrize("wrong", [0, None])
def test_a_gru_exported_with_its_reset_gate_too_early_is_mended(tmp_path, wrong):
    """As torch.onnx has written it: https://github.com/pytorch/pytorch/issues/189225."""
    program, path = load("Recurrent", RECURRENT), tmp_path / "m.onnx"
    export_older(program, path)
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "GRU":
            place = [a.name for a in node.attribute].index("linear_before_reset")
            del node.attribute[place]
            if wrong is not None:
                node.attribute.append(onnx.helper.make_attribute("linear_before_reset", wrong))
    onnx.save(model, path)
    assert run_both(program, path) > 1e-3
    mend(path, ())
    assert run_both(program, path) <= 1e-6


def test_torchscript_and_torch_export_files_are_told_from_tensors(tmp_path):
    module = Recurrent().eval()
    script, exported, tensors = (tmp_path / name for name in ("s.pt", "e.pt2", "t.pt"))
    save_script(module, script)
    save_exported(module, exported, torch.zeros(1, 2, 3), torch.zeros(2, 2, 8))
    torch.save(module.state_dict(), tensors)
    assert [programs.is_program(str(p)) for p in (script, exported, tensors)] == [True, True, False]
    assert not programs.is_program("gone.pt")
    assert programs.load(str(script), examples=RECURRENT).inputs == ("x", "h")
    program = programs.load(str(exported), outputs=["y", "h_new"])
    assert program.inputs == ("x", "h")
    path = tmp_path / "m.onnx"
    export_newer(program, path)
    mend(path, [StatePair("h", "h_new", 1)])
    assert run_both(program, path) <= 1e-6
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == [1, "B", 3]
    with pytest.raises(SettingsError, match="has its own example arguments"):
        programs.load(str(exported), examples=RECURRENT)
    with pytest.raises(SettingsError, match="has its weights inside"):
        programs.load(str(script), examples=RECURRENT, weights=tensors)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("gone.py:Net", "There is no file gone.py"),
        ("no_such_module:Net", "no_such_module can't be imported: ModuleNotFoundError"),
        (f"{HERE}:Gone", "names 'Gone', and there is nothing"),
        (f"{HERE}:number", "is no module, no class of one, and no function"),
        (f"{HERE}:broken", "can't be called without arguments: RuntimeError: no weights"),
        (f"{HERE}:examples", "gave a dict: it must be a torch.nn.Module"),
        (f"{HERE}:Both", r"bidirectional \('rnn'\).*not come yet"),
    ],
)
def test_what_is_no_program_is_said_in_a_sentence(source, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        programs.load(source, examples=RECURRENT)
    assert "\n" not in str(caught.value)


def test_a_scripted_bidirectional_layer_is_refused_too(tmp_path):
    path = save_script(torch.nn.GRU(3, 8, bidirectional=True), tmp_path / "both.pt")
    with pytest.raises(CheckpointError, match="bidirectional"):
        programs.load(str(path), examples=["input=T,B,3", "hx=2,B,8"])


def test_a_bidirectional_node_is_refused_wherever_it_comes_from(tmp_path):
    class Hidden(torch.nn.Module):  # its layers are no part of it that PyTorch knows
        layers = (torch.nn.GRU(3, 8, bidirectional=True).requires_grad_(requires_grad=False),)

        def forward(self, x, h):
            return self.layers[0](x, h)

    arguments = ((torch.zeros(5, 3, 3), torch.zeros(2, 3, 8)), {})
    program = Program(Kind.MODULE, Hidden(), arguments, ("x", "h"), ("y", "h_new"), "hidden")
    export_older(program, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match=r"bidirectional .*not come yet"):
        mend(tmp_path / "m.onnx", ())


def test_damaged_files_are_told(tmp_path):
    path = tmp_path / "x.pt2"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=r"can't be read as a program of torch\.export"):
        programs.load(str(path))


@pytest.mark.parametrize(
    ("examples", "options", "words"),
    [
        ([], {}, r"needs example arguments: .*\(x, h\)"),
        (["z=T,B,3"], {}, "names 'z', and the forward method .* takes x, h"),
        (["x=T,B,3", "x=T,B,3"], {}, "'x' out of turn"),
        (["x=T,B,3", "h.1=2,B,8"], {}, r"'h\.1' out of turn"),
        (["gone"], {}, "names the function 'gone'"),
        (RECURRENT, {"outputs": ["y"]}, "--outputs must name the 2 tensors .*, not 1"),
        (RECURRENT, {"outputs": ["y", "h"]}, "the name 'h', .* h_out say"),
        (RECURRENT, {"renames": ["a=b"]}, "--weights names"),
    ],
)
def test_arguments_that_do_not_fit_are_told(examples, options, words):
    with pytest.raises(SettingsError, match=words):
        load("Recurrent", examples, **options)


def test_a_program_that_fails_on_its_examples_says_so():
    with pytest.raises(CheckpointError, match=r"failed on inputs of the shapes \[5, 3, 4\]"):
        load("Recurrent", ["x=T,B,4", "h=2,B,8"])


def test_what_pytorch_can_not_export_is_said_without_its_graph(tmp_path, capfd):
    program = load("Projected", ["x=T,B,3", "h=1,B,4", "c=1,B,8"])
    with pytest.raises(ModelFileError, match=r"PyTorch can't export .*LSTMs with projections"):
        export_older(program, tmp_path / "m.onnx")
    os.write(2, b"heard again")
    assert capfd.readouterr() == ("", "heard again")


def test_the_speller_is_batch_first():
    """So that the tests that stream it would notice a transposed state."""
    scores, (h, _) = Speller()(torch.zeros(2, 7, dtype=torch.int64), (torch.zeros(2, 2, 8),) * 2)
    assert scores.shape == (2, 7, 30)
    assert h.shape == (2, 2, 8)
