import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from carousel_exporter import checkpoint
from carousel_exporter.cli import main

from . import mutants
from .builders import make_model, make_network, make_series, write_csv

COMMANDS = ["train", "convert", "verify", "inspect"]
QUICK = ["--window", "16", "--batch", "4", "--hidden", "8", "--epochs", "4", "--lr", "0.01"]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a series and what training on it left."""
    folder = tmp_path_factory.mktemp("trained")
    series = write_csv(folder / "s.csv", make_series())
    train = ["train", "--data", str(series), "--target", "a", "--horizon", "3", *QUICK]
    assert main([*train, "--season", "20", "--unit", "ppm", "--out", str(folder / "a.pt")]) == 0
    return folder


def test_training_to_serving_in_three_commands(trained, tmp_path, capsys):
    kept = checkpoint.load(trained / "a.pt")
    assert kept.features == ("a", "b")
    assert kept.targets == ("a",)
    assert kept.network.architecture.targets == (0,)
    assert kept.facts["data"] == "s.csv"
    assert (trained / "a.png").read_bytes().startswith(b"\x89PNG")
    model = tmp_path / "a" / "1" / "model.onnx"
    assert main(["convert", str(trained / "a.pt"), "--out", str(model)]) == 0
    assert "PyTorch" in capsys.readouterr().out
    against = ["--against", str(trained / "a.pt"), "--data", str(trained / "s.csv")]
    assert main(["verify", str(model), *against]) == 0
    assert capsys.readouterr().out.count("equal") == 5
    assert main(["inspect", str(model)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "Forecasts a 3 steps ahead from a, b.",
        "the last input, to take changes from",
        "multiply-adds",
        "opset 17",
        "76 bytes",
        "test_mae_persistence",
    ):
        assert words in shown, words


def test_the_table_has_each_forecast_and_the_unit(tmp_path, capsys):
    path = write_csv(tmp_path / "s.csv", make_series(200))
    lines = path.read_text().splitlines()
    lines[1] = "day 0,,1.0"
    lines[50] = "day 49,,1.0"
    path.write_text("\n".join(lines))
    out = tmp_path / "x.pt"
    train = ["train", "--data", str(path), "--target", "a", "--features", "a", "--out", str(out)]
    assert main([*train, *QUICK, "--season", "20", "--unit", "ppm", "--levels"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "dropped 1 leading rows",
        "filled 1 missing values of a",
        "MAE (ppm)",
        "LSTM",
        "persistence",
        "seasonal naive",
    ):
        assert words in shown, words
    assert checkpoint.load(out).network.architecture.targets is None


def test_the_same_seed_makes_the_same_files(trained, tmp_path):
    files = []
    for folder in (tmp_path / "1", tmp_path / "2"):
        out, model = folder / "a.pt", folder / "a.onnx"
        train = ["train", "--data", str(trained / "s.csv"), "--target", "a", "--out", str(out)]
        assert main([*train, *QUICK]) == 0
        assert main(["convert", str(out), "--out", str(model)]) == 0
        files.append((out.read_bytes(), model.read_bytes()))
    assert files[0] == files[1]


def test_several_targets_are_forecast_at_once(tmp_path, capsys):
    path = write_csv(tmp_path / "s.csv", make_series(200))
    out, model = tmp_path / "x.pt", tmp_path / "x.onnx"
    assert main(["train", "--data", str(path), "--target", "b,a", *QUICK, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert [shown.count(f"persistence   {name} ") for name in "ab"] == [1, 1]
    assert main(["convert", str(out), "--out", str(model), "--name", "pair"]) == 0
    assert main(["inspect", str(model)]) == 0
    assert "Forecasts b, a 1 step ahead from a, b." in capsys.readouterr().out


def test_a_wrong_model_file_exits_with_1(tmp_path, capsys):
    network = make_network()
    mutant = mutants.mutate(make_model(tmp_path / "m.onnx", network), mutants.leak_rows)
    assert main(["verify", str(mutant)]) == 1
    printed = capsys.readouterr()
    assert "differs" in printed.out
    assert printed.err.startswith("error: ")
    assert "is wrong" in printed.err


def test_networks_of_others_are_converted_with_a_map(tmp_path, capsys):
    torch.manual_seed(0)
    state = {f"rnn.{k}": v for k, v in torch.nn.LSTM(2, 4).state_dict().items()}
    state |= {f"fc.{k}": v for k, v in torch.nn.Linear(4, 1).state_dict().items()}
    theirs, model = tmp_path / "theirs.pth", tmp_path / "m.onnx"
    torch.save(state, theirs)
    assert main(["convert", str(theirs), "--out", str(model)]) == 1
    assert "--map fc=head" in capsys.readouterr().err
    assert not model.exists()
    options = ["--map", "fc=head", "--columns", "a,b", "--answers", "c", "--horizon", "2"]
    options += ["--mean", "300,0", "--scale", "2,1", "--output-scale", "10"]
    assert main(["convert", str(theirs), "--out", str(model), *options]) == 0
    capsys.readouterr()
    assert main(["inspect", str(model)]) == 0
    assert "Forecasts c 2 steps ahead from a, b." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--data", "gone.csv", "--target", "a"], "There is no file gone.csv."),
        (["train", "--data", "{csv}", "--target", "z"], "'z'"),
        (["train", "--data", "{csv}", "--target", "a", "--horizon", "0"], "at least 1 step"),
        (["train", "--data", "{csv}", "--target", "a", "--dropout", "0.5"], "no between"),
        (["train", "--data", "{csv}", "--target", "a", "--season", "999"], "season"),
        (["train", "--data", "{csv}", "--target", "a", "--threads", "0"], "--threads"),
        (["train", "--data", "{csv}", "--target", "a", "--threads", "999999"], "1 to 256, not 9"),
        (["train", "--data", "{csv}", "--target", "a", "--out", ""], "--out must name a file"),
        (["train", "--data", "{csv}", "--target", "a", "--tensorboard", "{csv}"], "is a file"),
        (
            ["train", "--data", "{csv}", "--target", "a", "--hidden", "200000"],
            "536,870,911 at most",
        ),
        (["train", "--data", "{csv}", "--target", "a", "--layers", "99999999"], "fewer --layers"),
        (["train", "--data", "{folder}", "--target", "a"], "can't be read: Is a directory"),
        (["convert", "{pt}", "--out", "{pt}"], "is the file to be converted"),
        (["convert", "{pt}", "--name", "\udcff", "--out", "x.onnx"], "is no text in UTF-8"),
        (["adopt", "{pt}", "--out", "x.onnx"], "is a checkpoint of `carousel-export train`"),
        (["train", "--data", "{csv}", "--target", "a", "--seed", "-1"], "seed must be"),
        (["convert", "{pt}", "--columns", "a,a"], "--columns names 'a' twice"),
        (["convert", "{pt}", "--out", "{folder}"], "it is a folder"),
        (["verify", "gone.onnx", "--seed", "-1"], "seed must be at least 0, not -1"),
        (["convert", "gone.pt"], "There is no file gone.pt."),
        (["convert", "{csv}"], "can't be read"),
        (["convert", "{pt}", "--map", "a=b"], "needs no --map"),
        (["convert", "{pt}", "--mean", "1,x"], "--mean takes numbers"),
        (["convert", "{pt}", "--horizon", "9"], "3 steps ahead"),
        (["verify", "gone.onnx"], "There is no file gone.onnx."),
        (["verify", "{csv}"], "is not an ONNX file"),
        (["verify", "gone.onnx", "--map", "a=b"], "--against"),
        (["inspect", "{csv}"], "is not an ONNX file"),
    ],
)
def test_errors_are_sentences(trained, capsys, arguments, words):
    files = {"csv": trained / "s.csv", "pt": trained / "a.pt", "folder": trained}
    assert main([argument.format(**files) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (["--out", "{folder}"], "it is a folder"),
        (["--out", "{csv}/a.pt"], "can't be written: Not a directory"),
        (["--out", "{new}", "--plot", "{folder}"], "it is a folder"),
        (["--out", "{new}", "--plot", "{csv}/a.png"], "can't be written: Not a directory"),
        (["--out", "{new}", "--plot", "{new}"], "--out and --plot are both"),
        (["--out", "{new}", "--plot", "{csv}"], "is the file of --data"),
    ],
)
def test_no_training_is_lost_to_a_place_that_can_not_be_written(
    trained, capsys, monkeypatch, places, words
):
    def train(*_arguments, **_options):
        raise AssertionError("training began")

    monkeypatch.setattr("carousel_exporter.training.Trainer.run", train)
    files = {"csv": trained / "s.csv", "folder": trained, "new": trained / "new" / "b.pt"}
    places = [place.format(**files) for place in places]
    assert main(["train", "--data", str(trained / "s.csv"), "--target", "a", *places]) == 1
    assert words in capsys.readouterr().err
    assert not files["new"].parent.exists()


def test_wrong_usage_exits_with_2(capsys):
    assert main(["train"]) == 2
    assert "--data" in capsys.readouterr().err
    assert main(["nothing"]) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"carousel-export {command} " in capsys.readouterr().out.split("For example:")[1]


def test_the_version_is_shown(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("carousel-export 0.")


def test_a_full_disk_is_one_sentence():
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, "-m", "carousel_exporter", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    words = "error: Reading or writing failed: No space left on device.\n"
    assert (found.returncode, found.stderr) == (1, words)


def test_ctrl_c_keeps_the_best_network_and_shows_the_table(tmp_path):
    path = write_csv(tmp_path / "s.csv", make_series())
    out = tmp_path / "a.pt"
    endless = ["--epochs", "100000", "--patience", "100000", "--window", "16"]
    train = ["train", "--data", str(path), "--target", "a", *endless, "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "carousel_exporter", *train],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        deadline = time.monotonic() + 60
        while not out.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        shown, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "interrupted after" in shown
    assert "persistence" in shown
    assert checkpoint.load(out).facts["best_epoch"] >= 1
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), "memory"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "no text in UTF-8"),
    ],
)
def test_what_may_come_from_anywhere_is_a_sentence(monkeypatch, capsys, error, words):
    def fail(_path):
        raise error

    monkeypatch.setattr("carousel_exporter.commands.inspect.read", fail)
    assert main(["inspect", "m.onnx"]) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_our_own_faults_are_not_hidden(monkeypatch):
    def fail(_path):
        raise RuntimeError("a fault")

    monkeypatch.setattr("carousel_exporter.commands.inspect.read", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        main(["inspect", "m.onnx"])


def test_a_program_is_not_written_over(tmp_path, capsys):
    path = tmp_path / "net.py"
    path.write_text("Net = None\n")
    assert main(["convert", f"{path}:Net", "--out", str(path)]) == 1
    assert "net.py is the file to be converted: give --out another name" in capsys.readouterr().err
    assert path.read_text() == "Net = None\n"


def test_progress_that_could_not_be_saved_is_told_before_training(trained, tmp_path, capsys):
    train = ["train", "--data", str(trained / "s.csv"), "--target", "a", *QUICK]
    out = tmp_path / "x.pt"
    out.with_name("x.pt.resume").mkdir()
    assert main([*train, "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "x.pt.resume can't be written: it is a folder" in told
    assert not out.exists()
    picture = ["--plot", str(tmp_path / "y.pt.resume")]
    assert main([*train, "--out", str(tmp_path / "y.pt"), *picture]) == 1
    assert "--plot and the progress of --out are both" in capsys.readouterr().err
