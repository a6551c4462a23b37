"""Labels and texts from the command line: trained, converted, verified, resumed, reported."""

import importlib
import os
import re

import numpy as np
import onnxruntime
import pytest
import torch

from carousel.v1 import manifest_pb2
from carousel_exporter import checkpoint
from carousel_exporter.cli import main
from carousel_exporter.curves import Log
from carousel_exporter.manifest import load_model, read_manifest

from .builders import make_series, write_csv
from .labelled import TEXT, write_gestures, write_text

SMALL = ["--hidden", "8", "--epochs", "3", "--lr", "0.01"]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def gestures(tmp_path):
    path = write_gestures(tmp_path / "g.csv")
    return ["train", "--task", "classify", "--data", str(path), "--sequence", "id", "--label",
            "kind"]  # fmt: skip


@pytest.fixture
def text(tmp_path):
    return ["train", "--task", "text", "--data", str(write_text(tmp_path / "t.txt"))]


def refusal(capsys, *arguments):
    assert main([*map(str, arguments)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_labels_from_a_csv_file_to_a_proved_model(gestures, tmp_path, capsys):
    out, model = tmp_path / "g.pt", tmp_path / "g.onnx"
    assert main([*gestures, *SMALL, "--class-weights", "balanced", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    for words in ("a label a sequence", "the last step", "always the commonest", "of slow"):
        assert words in shown, words
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
    kept = checkpoint.load(out)
    assert kept.targets == ("fast", "flat", "slow")
    assert "test_accuracy_last" in kept.facts
    assert main(["convert", str(out), "--out", str(model)]) == 0
    assert main(["verify", str(model), "--against", str(out)]) == 0
    # By the manifest's columns, as for forecasters.
    assert main(["verify", str(model), "--data", str(tmp_path / "g.csv")]) == 0
    assert capsys.readouterr().out.count("equal") == 5 + 5 + 4
    manifest = read_manifest(load_model(model), model)
    assert list(manifest.inputs[0].columns) == ["a", "b"]
    assert list(manifest.outputs[0].columns) == ["fast", "flat", "slow"]
    assert manifest.outputs[0].content == manifest_pb2.TENSOR_CONTENT_LOG_PROBABILITIES
    assert manifest.description == "Tells 3 classes apart from a, b."
    assert main(["inspect", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "log-probabilities of fast, flat, slow" in shown


def test_a_text_from_a_file_to_a_proved_model(text, tmp_path, capsys):
    out, model = tmp_path / "t.pt", tmp_path / "t.onnx"
    assert main([*text, *SMALL, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"5-gram\s+0\.\d+\s+\d+% (more|fewer)", shown)
    kept = checkpoint.load(out)
    assert kept.symbols == kept.targets
    assert main(["convert", str(out), "--out", str(model)]) == 0
    assert main(["verify", str(model), "--against", str(out)]) == 0
    assert main(["verify", str(model), "--data", str(tmp_path / "t.txt")]) == 0
    capsys.readouterr()
    manifest = read_manifest(load_model(model), model)
    (x,), (y,) = manifest.inputs, manifest.outputs
    assert list(x.symbols) == list(y.columns) == list(kept.symbols)
    assert (x.minimum, x.maximum) == (0, len(x.symbols) - 1)
    assert y.content == manifest_pb2.TENSOR_CONTENT_LOG_PROBABILITIES
    assert manifest.horizon == 1
    assert main(["inspect", str(model)]) == 0
    assert f"0 to {len(x.symbols) - 1}, {len(x.symbols)} symbols" in capsys.readouterr().out
    answer = answer_of(model, len(x.symbols))
    np.testing.assert_allclose(np.exp(answer).sum(axis=-1), 1, rtol=1e-5)


def test_a_model_is_verified_on_a_ts_file(tmp_path, capsys):
    waves = [f"{','.join(map(str, np.sin(np.arange(30) * k).round(3)))}:{k}" for k in (1, 2)]
    data = tmp_path / "w.ts"
    data.write_text("@classLabel true 1 2\n@data\n" + "\n".join(waves * 8) + "\n")
    train = ["train", "--task", "classify", "--data", str(data), *SMALL]
    out, model = tmp_path / "w.pt", tmp_path / "w.onnx"
    assert main([*train, "--out", str(out)]) == 0
    assert main(["convert", str(out), "--out", str(model)]) == 0
    assert main(["verify", str(model), "--data", str(data)]) == 0
    capsys.readouterr()
    words = refusal(capsys, "train", "--task", "classify", "--data", data, "--label", "kind")
    assert "--label names a column of a CSV file" in words.splitlines()[0]
    data.write_text("@classLabel true 1 2\n@data\n1,2:3,4:1\n")
    capsys.readouterr()
    assert "2 dimensions, and the model takes 1 column" in refusal(
        capsys, "verify", model, "--data", data
    )


def answer_of(model, symbols):
    session = onnxruntime.InferenceSession(str(model))
    states = {s.name: np.zeros((1, 8), np.float32) for s in session.get_inputs()[2:]}
    x = np.arange(symbols)[:, None]
    feeds = {"x": x, "sequence_lens": np.array([symbols], np.int32), **states}
    return session.run(["y"], feeds)[0]


def test_options_of_every_kind_end_in_a_proved_model(gestures, tmp_path, capsys):
    options = ["--layers", "2", "--dropout", "0.3", "--recurrent-dropout", "0.3", "--layer-norm"]
    options += ["--chrono", "20", "--label-smoothing", "0.1", "--cell", "gru"]
    out, model = tmp_path / "g.pt", tmp_path / "g.onnx"
    assert main([*gestures, *SMALL, *options, "--out", str(out)]) == 0
    assert main(["convert", str(out), "--out", str(model)]) == 0
    assert "differs" not in capsys.readouterr().out
    assert checkpoint.load(out).facts["recurrent_dropout"] == 0.3


@pytest.mark.parametrize("task", ["forecast", "classify", "text"])
def test_an_interrupted_run_resumed_leaves_the_same_file(  # noqa: PLR0917 - fixtures
    task, gestures, text, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("carousel_exporter.commands.run.SAVE_EVERY", 0.0)
    series = write_csv(tmp_path / "s.csv", make_series())
    forecast = ["train", "--data", str(series), "--target", "a"]
    train = {"forecast": forecast, "classify": gestures, "text": text}[task]
    train = [*train, "--hidden", "8", "--epochs", "6", "--layers", "2", "--dropout", "0.2"]
    whole, cut = tmp_path / "whole.pt", tmp_path / "cut.pt"
    assert main([*train, "--out", str(whole)]) == 0
    write, seen = Log.write, []

    def interrupt(self, epoch):
        seen.append(epoch.number)
        if seen == [1, 2, 3]:
            raise KeyboardInterrupt
        write(self, epoch)

    monkeypatch.setattr(Log, "write", interrupt)
    assert main([*train, "--out", str(cut)]) == 130
    assert "--resume goes on from here" in capsys.readouterr().out
    assert cut.with_name("cut.pt.resume").exists()
    assert main([*train, "--out", str(cut), "--resume"]) == 0
    assert "resumed after epoch 2" in capsys.readouterr().out
    assert seen == [1, 2, 3, 3, 4, 5, 6]
    assert cut.read_bytes() == whole.read_bytes()
    assert not cut.with_name("cut.pt.resume").exists()  # it came to its end


def test_other_settings_are_not_resumed(text, tmp_path, capsys, monkeypatch):
    out = ["--out", str(tmp_path / "t.pt")]
    monkeypatch.setattr("carousel_exporter.commands.run.SAVE_EVERY", 0.0)

    def interrupt(_self, epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Log, "write", interrupt)
    assert main([*text, *SMALL, *out]) == 130
    capsys.readouterr()
    words = refusal(capsys, *text, *SMALL, *out, "--resume", "--seed", "4")
    assert "is of a run with seed 0, and this one has 4" in words
    words = refusal(capsys, *text, *SMALL, *out, "--resume", "--test", "0.2")
    assert "is of a run with test 0.1, and this one has 0.2" in words
    write_text(tmp_path / "t.txt", TEXT + "more")
    assert "is of a run with data sha256" in refusal(capsys, *text, *SMALL, *out, "--resume")


@pytest.fixture
def cut(tmp_path, monkeypatch):
    """A forecast in ppm that is interrupted after three epochs, and where its progress lies."""
    series = write_csv(tmp_path / "s.csv", make_series(200))
    train = ["train", "--data", str(series), "--target", "a", "--window", "16", "--hidden", "8"]
    train += ["--unit", "ppm", "--out", str(tmp_path / "f.pt")]

    def interrupt(_self, epoch):
        if epoch.number == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("carousel_exporter.commands.run.SAVE_EVERY", 0.0)
        patch.setattr(Log, "write", interrupt)
        assert main([*train, "--epochs", "5"]) == 130
    return train, tmp_path / "f.pt.resume"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (["--unit", "ppb"], "with unit ppm, and this one has ppb: resume with the same"),
        (["--unit", ""], "with unit ppm, and this one has none"),
        (["--horizon", "2"], "with horizon 1, and this one has 2"),
        (["--target", "b"], "with target a, and this one has a,b"),
        (["--features", "a"], "with features none, and this one has a"),
        (["--levels"], "with changes none, and this one has False"),
        (["--lr", "0.1"], "with learning rate 0.003, and this one has 0.1"),
        (["--epochs", "2"], "There is nothing left to train: {progress} has 3 epochs done, and "
                            "--epochs is 2; ask for more than 3"),
    ],
)  # fmt: skip
def test_what_would_make_another_result_is_not_resumed(cut, other, words, capsys):
    train, progress = cut
    capsys.readouterr()
    before = progress.with_suffix("").read_bytes()
    error = refusal(capsys, *train, "--resume", *other)
    assert words.format(progress=progress) in error
    assert progress.with_suffix("").read_bytes() == before
    assert progress.exists()


def test_what_makes_no_other_result_may_change(cut, tmp_path, capsys):
    train, _ = cut
    picture = tmp_path / "new" / "folder" / "x.png"
    threads = torch.get_num_threads()
    try:
        others = ["--threads", "2", "--season", "7", "--plot", str(picture), "--epochs", "6"]
        assert main([*train, "--resume", *others]) == 0
    finally:
        torch.set_num_threads(threads)
    assert "ended after 6 epochs" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")  # its folders are made


def test_a_run_with_nothing_left_is_ended_with_what_it_has(cut, capsys):
    train, progress = cut
    assert main([*train, "--resume", "--epochs", "3"]) == 0
    shown = capsys.readouterr().out
    assert "resumed after epoch 3: there is nothing left to train" in shown
    assert "ended after 3 epochs" in shown
    assert not progress.exists()


def test_damaged_progress_is_refused_in_our_words(cut, capsys):
    train, progress = cut
    content = progress.read_bytes()
    progress.write_bytes(content[: len(content) // 2])
    error = refusal(capsys, *train, "--resume")
    assert f"{progress} can't be read: a whole file of torch.save was expected" in error
    assert "PytorchStreamReader" not in error


def test_without_an_interrupted_run_there_is_nothing_to_resume(text, tmp_path, capsys):
    words = refusal(capsys, *text, "--out", tmp_path / "t.pt", "--resume")
    assert "to resume from" in words


@pytest.mark.parametrize("task", ["forecast", "classify", "text"])
def test_a_report_is_one_page_with_all_in_it(task, gestures, text, tmp_path, capsys):
    series = write_csv(tmp_path / "s.csv", make_series(200))
    forecast = ["train", "--data", str(series), "--target", "a", "--window", "16"]
    train = {"forecast": forecast, "classify": gestures, "text": text}[task]
    page = tmp_path / "report.html"
    assert main([*train, *SMALL, "--out", str(tmp_path / "x.pt"), "--report", str(page)]) == 0
    content = page.read_text(encoding="utf-8")
    assert content.count("<svg") == 2
    for words in ("<td>learning_rate</td><td>0.01</td>", "LSTM", "data_sha256", "held out"):
        assert words in content, words
    assert not re.search(r'(?:src|href)="https?:', content)
    assert "<script" not in content
    assert f"report:     {page}" in capsys.readouterr().out


def test_a_log_for_tensorboard_has_every_epoch(text, tmp_path):
    if not os.environ.get("CI"):
        pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "log"
    assert main([*text, *SMALL, "--out", str(tmp_path / "t.pt"), "--tensorboard", str(folder)]) == 0
    events = accumulator.EventAccumulator(str(folder)).Reload()
    found = [event.step for event in events.Scalars("loss/validation")]
    assert found == [1, 2, 3]
    assert {*events.Tags()["scalars"]} == {"loss/training", "loss/validation", "learning rate"}


def test_a_missing_tensorboard_is_said(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    words = refusal(capsys, *text, "--out", tmp_path / "t.pt", "--tensorboard", tmp_path / "log")
    assert "pip install 'carousel-exporter[tensorboard]'" in words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--task", "cluster"], "--task is forecast or classify or text, not 'cluster'."),
        ([], "--target must name a column to forecast."),
        (["--target", "a", "--label", "b"], "--label is for --task classify, and this is forecast"),
        (["--task", "text", "--horizon", "3"], "--horizon is for --task forecast, and"),
        (["--task", "text", "--features", "a"], "--features is for --task forecast or classify"),
        (["--target", "a", "--cell", "rnn", "--chrono", "50"], "kind 'rnn' has none"),
        (["--target", "a", "--chrono", "2"], "at least 3 steps"),
        (["--target", "a", "--recurrent-dropout", "1"], "recurrent dropout must be at least 0"),
        (["--target", "a", "--window", "999"], "279 steps to learn from, and a window has 999"),
        (["--target", "a", "--report", "{csv}"], "is the file of --data"),
        (["--target", "a", "--out", "x.pt", "--report", "x.pt"], "--out and --report are both"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(tmp_path, capsys, options, words):
    series = write_csv(tmp_path / "s.csv", make_series())
    options = [option.format(csv=series) for option in options]
    assert words in refusal(capsys, "train", "--data", series, *options)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [*lines[:3], "day 2,1.0", *lines[4:]], ["Line 4", "2 cells", "has 3"]),
        (lambda lines: [*lines[:3], "day 2,warm,1.0", *lines[4:]], ["Line 4", "'a'", "'warm'"]),
        (lambda lines: [f"{line.split(',')[0]},,1" if n else line for n, line in enumerate(lines)],
         ["Column 'a'", "no values"]),
        (lambda lines: [f"{line.split(',')[0]},7,1" if n else line
                        for n, line in enumerate(lines)],
         ["Column 'a'", "constant"]),
        (lambda lines: lines[:60], ["window", "64"]),
        (lambda lines: lines[:6], ["too short"]),
        (lambda _lines: ["day,a,b"], ["header line and at least one line"]),
    ],
)  # fmt: skip
def test_bad_series_are_one_sentence_with_the_place(tmp_path, capsys, change, words):
    path = write_csv(tmp_path / "s.csv", make_series())
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    found = refusal(capsys, "train", "--data", path, "--target", "a", "--features", "a")
    assert all(word in found for word in words), found


def test_gaps_and_constant_columns_are_told(tmp_path, capsys):
    path = write_csv(tmp_path / "s.csv", make_series(200))
    lines = path.read_text().splitlines()
    lines = [lines[0], *(f"{line.rpartition(',')[0]},5" for line in lines[1:])]
    lines[9] = "day 8,,5"
    path.write_text("\n".join(lines) + "\n")
    train = ["train", "--data", str(path), "--target", "a", "--window", "16", *SMALL]
    assert main([*train, "--out", str(tmp_path / "x.pt")]) == 0
    shown = capsys.readouterr().out
    assert "filled 1 missing values of a with the one before" in shown
    assert "column b is constant over the training part" in shown


def test_a_label_in_the_test_file_alone_is_one_sentence(gestures, tmp_path, capsys):
    test = tmp_path / "t.csv"
    test.write_text("id,a,b,kind\nq,1,2,slow\nr,1,2,wild\n")
    found = refusal(capsys, *gestures, "--test-data", test)
    assert "Line 3" in found
    assert "'wild'" in found


def test_an_empty_text_is_one_sentence(tmp_path, capsys):
    path = write_text(tmp_path / "t.txt", "")
    assert "t.txt is empty: a text was expected" in refusal(
        capsys, "train", "--task", "text", "--data", path
    )
