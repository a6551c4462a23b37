"""What README.md and docs/sdk.md tell to paste works when pasted."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from tests.docs.pages import blocks, text

PYTHON = blocks("README.md", "python")


def test_there_are_examples_to_run():
    assert len(PYTHON) == 2


@pytest.mark.parametrize("example", PYTHON, ids=["sync", "asyncio"])
def test_a_python_example_runs(example, server):
    script = example.replace("localhost:8001", server.address)
    assert script != example
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


COMMANDS = [
    shlex.split(line.partition("<")[0])
    for block in blocks("README.md", "sh")
    for line in block.replace("\\\n", " ").splitlines()
    if line
]
MODULES = {
    "carousel": "carousel_client.cli",
    "carousel-export": "carousel_exporter.cli",
    "carousel-server": "carousel_server.__main__",
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_shell_example_has_flags_that_exist(command):
    """Without running it: training is the demo's test."""
    name, *rest = command
    script = f"import sys; from {MODULES[name]} import main; sys.argv[0] = {name!r}; main()"
    verb = [] if name == "carousel-server" else rest[:1]
    done = subprocess.run(
        [sys.executable, "-c", script, *verb, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    flags = {word for word in rest if word.startswith("--")}
    assert flags <= set(re.findall(r"--[a-z-]+", done.stdout))


def test_make_targets_in_the_text_exist():
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    told = {
        target
        for page in ("README.md", "CONTRIBUTING.md", "docs/server.md")
        for target in re.findall(r"\bmake ([a-z-]+)`|^make ([a-z-]+)", text(page), re.MULTILINE)
        for target in target
        if target
    }
    assert {"demo", "test"} <= told <= targets
