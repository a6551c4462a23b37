"""`carousel-export adopt` shows what it proposes, asks, and says what came of it."""

import sys

import onnx
import pytest

from carousel_exporter.cli import main
from tests.exporter.adoption.texts import lstm_step


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def place(tmp_path):
    onnx.save(lstm_step(), tmp_path / "theirs.onnx")
    return [str(tmp_path / "theirs.onnx"), "--out", str(tmp_path / "model.onnx")]


def test_a_proposal_is_refused_without_a_terminal(place, tmp_path, capsys):
    assert main(["adopt", *place]) == 1
    shown = capsys.readouterr()
    assert "--state h0=hn:1 --state c0=cn:1" in shown.out
    assert "pass --yes" in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("case", [("y\n", 0), ("\n", 0), ("n\n", 1)], ids=["y", "", "n"])
def test_a_proposal_is_asked_at_a_terminal(place, tmp_path, capsys, monkeypatch, case):
    answer, status = case

    class Terminal:
        def isatty(self):
            return True

        def readline(self, *_):
            return answer

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert main(["adopt", *place]) == status
    assert (tmp_path / "model.onnx").exists() == (status == 0)
    assert "Is that right?" in capsys.readouterr().out


def test_yes_takes_it_and_tells_what_came_of_it(place, tmp_path, capsys):
    assert main(["adopt", *place, "--yes", "--name", "ear", "--description", "hears"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "h of 1 recurrent layer",
        "[1, 1, 6]",
        "the original, by hand",
        "any number of rows a run",
        "branches (If): 0 before, 0 after",
        "proposed and proved",
    ):
        assert words in shown, words
    assert main(["inspect", str(tmp_path / "model.onnx")]) == 0
    inspected = capsys.readouterr().out
    assert "ear" in inspected
    assert "hears" in inspected


def test_what_is_stated_is_not_asked(place, capsys):
    assert main(["adopt", *place, "--state", "h0=hn:1", "--state", "c0=cn:1"]) == 0
    assert "stated and proved" in capsys.readouterr().out


def test_the_command_that_is_shown_states_everything(place, tmp_path, capsys):
    assert main(["adopt", *place, "--yes"]) == 0
    first = (tmp_path / "model.onnx").read_bytes()
    shown = capsys.readouterr().out
    (command,) = [line for line in shown.splitlines() if line.startswith("  carousel-export adopt")]
    assert main(command.split()[1:]) == 0
    assert (tmp_path / "model.onnx").read_bytes() == first


def test_a_file_is_not_written_over_itself(place, capsys):
    assert main(["adopt", place[0], "--yes", "--out", place[0]]) == 1
    assert "is the file to be adopted" in capsys.readouterr().err


def test_what_clients_send_and_get_is_shown_whole_on_narrow_terminals(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    model = lstm_step()
    long = "a_state_with_a_name_that_is_long"
    for node in model.graph.node:
        for place, value in enumerate(node.output):
            node.output[place] = long if value == "cn" else value
    model.graph.output[2].name = long
    path, out = tmp_path / "theirs.onnx", tmp_path / "model.onnx"
    onnx.save(model, path)
    flags = ["--state", "h0=hn", "--state", f"c0={long}", "--context", "x=1", "--out", str(out)]
    assert main(["adopt", str(path), *flags]) == 0
    shown = capsys.readouterr().out
    assert f"  c0   {long}  " in shown
    assert "…" not in shown
    (sent,) = [line for line in shown.splitlines() if line.startswith("  send")]
    assert sent.split() == ["send", "x", "float32", "[2]", "[B,", "3]"]


def test_a_state_that_is_the_answer_is_shown_as_one(tmp_path, capsys):
    path = tmp_path / "theirs.onnx"
    onnx.save(lstm_step(outputs="hn, cn"), path)
    out = ["--out", str(tmp_path / "model.onnx")]
    assert main(["adopt", str(path), "--state", "h0=hn", "--state", "c0=cn", *out]) == 0
    got = [line.split() for line in capsys.readouterr().out.splitlines()]
    (answer,) = [words for words in got if words[:1] == ["get"]]
    assert answer[1:3] == ["hn_answer", "float32"]
