"""The examples that train a network, as a whole and quickly, as somebody runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.text import __main__ as text
from tests.examples.processes import is_running

# Four processes that import PyTorch, one after the other: a minute or more on a busy machine.
pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
#: What each one must have said at the end.
CLAIMS = {
    "vowels": [r"right on TEST, by seed", r"370 utterances", r"still speaking"],
    "demand": [r"seasonal naive: as a week before", r"59 sessions together", r"47\.5 h"],
    "text": [r"drawn at temperature 0\.5:", r"the best of 8 beams", r"5-gram +\d\.\d+"],
}


@pytest.fixture(scope="module", params=CLAIMS)
def done(request, tmp_path_factory):
    """One example, run once: its name, its folder and what came of it."""
    name, out = request.param, tmp_path_factory.mktemp(request.param)
    command = [sys.executable, "-m", f"examples.{name}", "--quick", "--out", str(out)]
    environment = os.environ | {"COLUMNS": "100", "CAROUSEL_TEST_DATA": ""}
    ended = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=environment,
    )
    return name, out, ended


def test_it_ends_well_with_all_that_it_claims(done):
    name, out, ended = done
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for words in (*CLAIMS[name], r"All streamed answers equal PyTorch's"):
        assert re.search(words, ended.stdout), words
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert ended.stderr == ""
    assert not [c for c in ended.stdout if not (c.isprintable() or c == "\n")]


def test_it_leaves_a_model_file_and_no_process(done):
    name, out, ended = done
    (pid,) = re.findall(r"process (\d+)", ended.stdout)
    assert not is_running(int(pid))
    model = {"vowels": "speakers"}.get(name, name)
    assert (out / "models" / model / "1" / "model.onnx").is_file()


def test_a_text_that_is_none_is_told(tmp_path, capsys):
    path = tmp_path / "empty.txt"
    path.write_text("")
    assert text.main([str(path), "--out", str(tmp_path / "out")]) == 1
    assert "is empty: a text was expected" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "out").exists()


def test_the_text_example_trains_well_by_default(tmp_path):
    """Its two layers and its dropout, on so short a text that it takes seconds."""
    words = tmp_path / "words.txt"
    words.write_text("the cat sat on the mat, and the rat sat on the cat.\n" * 120)
    command = [sys.executable, "-m", "examples.text", str(words), "--epochs", "1", "--length", "9"]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=os.environ | {"COLUMNS": "100"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "--layers 2 --dropout 0.2" in ended.stdout
    assert "All streamed answers equal PyTorch's" in ended.stdout
