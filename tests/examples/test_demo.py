"""The demo as a whole, as somebody runs it, and how it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.co2 import demo
from examples.co2.errors import DemoError
from tests.examples.processes import is_running

ROOT = Path(__file__).parents[2]


def test_the_demo_holds_what_it_claims_and_leaves_nothing_running(tmp_path):
    svg = tmp_path / "demo.svg"
    command = [sys.executable, "-m", "examples.co2.demo", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--record", str(svg)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert len(re.findall(r" equal *$", done.stdout, re.MULTILINE)) == 5 + 4
    assert done.stdout.count("beaten: ") == 2
    (pid,) = re.findall(r"process (\d+)", done.stdout)
    assert not is_running(int(pid))
    assert (tmp_path / "models" / "co2" / "1" / "model.onnx").is_file()
    assert (tmp_path / "co2.png").read_bytes().startswith(b"\x89PNG")
    assert "http" not in re.sub(r'xmlns="[^"]*"|<!--.*?-->', "", svg.read_text())


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
