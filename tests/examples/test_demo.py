"""The demo as a whole, as somebody runs it, and how it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.co2 import demo
from examples.common.errors import DemoError
from examples.common.serving import serving
from tests.examples.processes import is_running

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def done(out):
    """The demo, run once, with its output in files as it is without a terminal."""
    command = [sys.executable, "-m", "examples.co2.demo", "--quick", "--out", str(out)]
    return subprocess.run(
        [*command, "--record", str(out / "demo.svg")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_demo_holds_what_it_claims(done):
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r" equal *$", done.stdout, re.MULTILINE)) == 5 + 4
    assert done.stdout.count("beaten: ") == 2


def test_without_a_terminal_the_demo_prints_plain_text_alone(done):
    assert done.stderr == ""
    assert not [c for c in done.stdout if not (c.isprintable() or c == "\n")]


def test_the_demo_leaves_its_files_and_no_process(done, out):
    (pid,) = re.findall(r"process (\d+)", done.stdout)
    assert not is_running(int(pid))
    assert (out / "models" / "co2" / "1" / "model.onnx").is_file()
    assert (out / "co2.png").read_bytes().startswith(b"\x89PNG")


def test_the_recording_fetches_nothing(done, out):
    svg = (out / "demo.svg").read_text()
    assert "Stream" in svg
    assert "http" not in re.sub(r'xmlns="[^"]*"|<!--.*?-->', "", svg)


def test_the_command_that_it_ends_with_can_be_pasted(done, out):
    command = done.stdout.split("from another:\n")[1]
    with serving(out / "models", log=out / "log") as server:
        pasted = subprocess.run(
            command,
            shell=True,
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"CAROUSEL_ADDRESS": server.address},
            timeout=60,
            check=False,
        )
    assert pasted.returncode == 0, pasted.stderr
    with demo.DATA.open() as data:
        assert len(pasted.stdout.splitlines()) == len(data.readlines())  # a header each


@pytest.mark.parametrize(
    ("outcome", "status", "told"),
    [
        (["The answers differ."], 1, "The answers differ."),
        (DemoError("No server."), 1, "The demo failed: No server."),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_the_exit_status_tells_how_it_ended(monkeypatch, capsys, outcome, status, told):
    def run(_display, _options):
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(demo, "run", run)
    assert demo.main([]) == status
    assert told in capsys.readouterr().out


def test_wrong_usage_is_status_2(capsys):
    with pytest.raises(SystemExit) as ended:
        demo.main(["--slow"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --slow" in capsys.readouterr().err
