"""Programs as model files: what comes out equals the program in PyTorch, however it is cut."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from carousel.v1 import manifest_pb2
from carousel_exporter import programs
from carousel_exporter.adoption import Options, StatePair
from carousel_exporter.cli import main
from carousel_exporter.conversion import Labels
from carousel_exporter.errors import ExporterError, VerificationError
from carousel_exporter.inspection import inspect
from carousel_exporter.manifest import load_model, read_manifest
from carousel_exporter.programs import converting

from .networks import assert_equal, run_torch, save_exported, save_script, stream
from .programs import Cell, Gappy, Recurrent, Scripted, Speller, recurrent

HERE = Path(__file__).with_name("programs.py")
RECURRENT = ["x=T,B,3", "h=2,B,8"]
STEPS, ROWS = 21, 4


def converted(folder, source, examples=(), *, states=(), outputs=(), labels=None, **options):
    program = programs.load(str(source), examples=examples, outputs=outputs, **options)
    path = folder / "model.onnx"
    pairs = tuple(StatePair.parse(text) for text in states)
    given = Options(states=pairs, name="theirs")
    report, _ = programs.convert_program(program, path, labels or Labels("theirs"), given)
    assert report.passed
    return path


def observations(*shape):
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", ["Recurrent", "Tanh", "recurrent"])
@pytest.mark.parametrize("states", [["h=h_new:1"], []], ids=["stated", "found"])
def test_a_module_in_python_streams_as_it_is(tmp_path, name, states):
    make = {"Recurrent": Recurrent, "Tanh": lambda: Recurrent("RNN"), "recurrent": recurrent}[name]
    path = converted(tmp_path, f"{HERE}:{name}", RECURRENT, states=states, outputs=["y", "h_new"])
    x = observations(STEPS, ROWS, 3)
    expected, _ = run_torch(make().eval(), x, np.zeros((2, ROWS, 8), np.float32))
    assert_equal(stream(path, x=x)["y"], expected)
    manifest = read_manifest(load_model(path), path)
    assert manifest.form == manifest_pb2.MODEL_FORM_SEQUENCE
    assert [(s.name, list(s.shape)) for s in manifest.states] == [("h", [2, 8])]
    assert manifest.max_batch == 0
    assert manifest.provenance["program"] == f"programs.py:{name}"
    assert manifest.provenance["torch"] == torch.__version__


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_torchscript_streams_as_it_is(tmp_path, kind):
    if kind == "GRU":
        module, examples = Recurrent().eval(), RECURRENT
        x = observations(STEPS, ROWS, 3)
        expected = run_torch(module, x, np.zeros((2, ROWS, 8), np.float32))[0]
    else:
        module = Speller().eval()
        examples = ["tokens=int64:B,T:0..29", "state.0=2,B,8", "state.1=2,B,8"]
        x = np.random.default_rng(0).integers(0, 30, (STEPS, ROWS))
        with torch.inference_mode():
            zeros = torch.zeros(2, ROWS, 8)
            expected = module(torch.from_numpy(x.T), (zeros, zeros))[0].numpy().transpose(1, 0, 2)
    script = save_script(module, tmp_path / "theirs.pt")
    path = converted(tmp_path, script, examples)
    name = "x" if kind == "GRU" else "tokens"
    assert_equal(stream(path, **{name: x})["out0"], expected)
    assert inspect(path).operators[kind] == 2
    assert len(read_manifest(load_model(path), path).provenance["program_sha256"]) == 64


def test_a_program_of_torch_export_is_served_a_step_at_a_time(tmp_path):
    module = Recurrent().eval()
    exported = save_exported(
        module, tmp_path / "theirs.pt2", torch.zeros(1, 2, 3), torch.zeros(2, 2, 8)
    )
    path = converted(tmp_path, exported, states=["h=h_new:1"], outputs=["y", "h_new"])
    x = observations(STEPS, ROWS, 3)
    expected, _ = run_torch(module, x, np.zeros((2, ROWS, 8), np.float32))
    assert_equal(stream(path, x=x)["y"].reshape(expected.shape), expected)
    manifest = read_manifest(load_model(path), path)
    assert manifest.form == manifest_pb2.MODEL_FORM_STEP
    assert manifest.max_batch == 0


def test_a_cell_is_one_step(tmp_path):
    path = converted(tmp_path, f"{HERE}:Cell", ["x=B,3", "h=B,8"], outputs=["y", "h_new"])
    x = observations(STEPS, ROWS, 3)
    module, h, expected = Cell().eval(), np.zeros((ROWS, 8), np.float32), []
    for step in x:
        y, h = run_torch(module, step, h)
        expected.append(y)
    assert_equal(stream(path, x=x)["y"], np.stack(expected))
    assert read_manifest(load_model(path), path).form == manifest_pb2.MODEL_FORM_STEP


def test_arguments_may_be_left_out_and_states_begin_elsewhere(tmp_path):
    start = tmp_path / "h.npy"
    np.save(start, np.linspace(-1, 1, 8, dtype=np.float32))
    words = ["convert", f"{HERE}:Gappy", "--example", "x=B,3", "--example", "h=B,8"]
    path = tmp_path / "model.onnx"
    words += ["--outputs", "y,h_new", "--state", "h=h_new:0", "--init", f"h={start}"]
    assert main([*words, "--out", str(path)]) == 0
    x = observations(STEPS, ROWS, 3)
    module, h = Gappy().eval(), torch.from_numpy(np.load(start)).expand(ROWS, 8)
    expected = []
    with torch.inference_mode():
        for step in x:
            y, h = module(torch.from_numpy(step), None, h)
            expected.append(y.numpy())
    assert_equal(stream(path, x=x)["y"], np.stack(expected))


def test_bounds_of_tokens_and_what_people_say_are_in_the_file(tmp_path):
    labels = Labels("speller", "Spells.", unit="logit", horizon=1)
    path = converted(tmp_path, f"{HERE}:Speller", ["examples"], labels=labels)
    manifest = read_manifest(load_model(path), path)
    (tokens,), (scores,) = manifest.inputs, manifest.outputs
    assert (tokens.minimum, tokens.maximum, list(tokens.shape)) == (0, 29, [])
    assert (scores.unit, manifest.description, manifest.horizon) == ("logit", "Spells.", 1)
    assert [list(state.shape) for state in manifest.states] == [[2, 8], [2, 8]]


def test_a_file_whose_gru_resets_too_early_is_never_written(tmp_path, monkeypatch):
    """Were it not mended, the comparison with PyTorch would refuse it."""

    def spoil(path, _states):
        model = onnx.load(path)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "linear_before_reset":
                    attribute.i = 0
        onnx.save(model, path)

    monkeypatch.setattr(converting, "mend", spoil)
    with pytest.raises(VerificationError, match=r"differ from the program's: PyTorch: '.*' is off"):
        converted(tmp_path, f"{HERE}:Recurrent", RECURRENT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "examples", "state", "words"),
    [
        ("Fickle", ["x=B,3", "s=B,3"], "s=out1:0", "differ from the program's: PyTorch"),
        ("Careful", RECURRENT, "h=out1:1", "where inputs are very loud or quiet"),
        ("Absentminded", RECURRENT, "h=out1:1", "differs from the whole one"),
        ("Recurrent", RECURRENT, "h=out1:2", "out1"),
        ("Recurrent", RECURRENT, "g=out1:1", "'g'"),
    ],
)
def test_programs_that_are_not_what_they_seem_are_refused(tmp_path, name, examples, state, words):
    with pytest.raises(ExporterError, match=words):
        converted(tmp_path, f"{HERE}:{name}", examples, states=[state])
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_branches_on_values_is_taken_as_a_script(tmp_path, capsys):
    """Then both ways through it are in the file, and rows, whose ways may differ, run alone."""
    script, path = tmp_path / "scripted.pt", tmp_path / "model.onnx"
    save_script(Scripted(), script)
    examples = ["--example", "x=B,3", "--example", "h=B,8"]
    assert main(["convert", str(script), *examples, "--out", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "batching: one row a run. the branch of an If" in shown
    assert "--against" not in shown
    x = observations(STEPS, ROWS, 3)
    x[3] *= 100
    expected = run_steps(Scripted(), x, np.zeros((ROWS, 8), np.float32))
    assert_equal(stream(path, x=x)["out0"], expected)


def run_steps(module, x, h):
    """Run a module of one step a call over x (T, B, F), each row by itself; return (T, B, O)."""
    rows = []
    for row in range(x.shape[1]):
        state, answers = torch.tensor(h[row : row + 1]), []
        for step in range(len(x)):
            y, state = module(torch.tensor(x[step, row : row + 1]), state)
            answers.append(y.detach().numpy())
        rows.append(np.concatenate(answers))
    return np.stack(rows, axis=1)


def test_programs_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "1" / "model.onnx"
    words = ["convert", f"{HERE}:Recurrent", "--out", str(path), "--outputs", "y,h_new"]
    words += [word for example in RECURRENT for word in ("--example", example)]
    assert main([*words, "--state", "h=h_new:1", "--columns", "a,b,c"]) == 0
    assert "states: h comes back as h_new" in capsys.readouterr().out
    manifest = read_manifest(load_model(path), path)
    assert (manifest.name, list(manifest.inputs[0].columns)) == ("Recurrent", ["a", "b", "c"])
    assert main(["verify", str(path)]) == 0


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (f"{HERE}:Recurrent", ["--mean", "1,2,3"], "is a program, and --mean or --scale is for"),
        (f"{HERE}:Recurrent", ["--nonlinearity", "tanh"], "--nonlinearity is for files of tensors"),
        (f"{HERE}:Recurrent", [], "needs example arguments"),
        (f"{HERE}:Recurrent", ["--example", "x=T,B,3", "--state", "h"], "--state takes IN=OUT"),
        ("theirs.pth", ["--init", "h=h.npy"], "and --init is for programs"),
        ("theirs.pth", ["--state", "h=h_new"], "is a file of tensors, and --state is for programs"),
        ("theirs.onnx", [], "`carousel-export adopt` takes those"),
        ("gone.pt2", [], "can't be read as a program|There is no file gone.pt2"),
    ],
)
def test_errors_are_sentences(tmp_path, capsys, source, options, words):
    assert main(["convert", source, *options, "--out", str(tmp_path / "m.onnx")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert any(part in error for part in words.split("|")), error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
