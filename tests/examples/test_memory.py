"""The long-memory example as a whole, as somebody runs it, and how it ends."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.memory import __main__ as memory
from examples.memory.networks import NETWORKS
from examples.memory.streaming import stream
from tests.examples.processes import is_running

ROOT = Path(__file__).parents[2]
TINY = ("--lags", "4", "6", "--seeds", "1", "--updates", "10")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("memory")


@pytest.fixture(scope="module")
def done(out):
    return subprocess.run(
        [sys.executable, "-m", "examples.memory", *TINY, "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_every_network_scores_the_same_through_a_server(done, out):
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r" equal *$", done.stdout, re.MULTILINE)) == len(NETWORKS)
    with (out / "long-memory.csv").open() as file:
        records = list(csv.DictReader(file))
    assert len(records) == 2 * 2 * len(NETWORKS)
    for record in records:
        assert float(record["score"]) == pytest.approx(float(record["streamed_score"]), abs=1e-4)
        assert float(record["largest_difference"]) < 1e-4


def test_without_a_terminal_it_prints_plain_text_alone(done):
    assert done.stderr == ""
    assert not [c for c in done.stdout if not (c.isprintable() or c == "\n")]


def test_it_leaves_its_files_and_no_process(done, out):
    (pid,) = re.findall(r"process (\d+)", done.stdout)
    assert not is_running(int(pid))
    assert (out / "long-memory.png").read_bytes().startswith(b"\x89PNG")
    assert "| 4 |" in (out / "long-memory.md").read_text()


def test_a_score_that_differs_is_a_failure(done, out, monkeypatch, capsys):
    """The second run reads the networks, and a stream of other numbers is answered otherwise."""
    monkeypatch.setattr(
        "examples.memory.streaming.stream", lambda client, model, x: stream(client, model, -x)
    )
    assert memory.main([*TINY, "--out", str(out)]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "The example failed: the streamed score of bit-rnn-4-seed0" in told
    assert "differs" in told
