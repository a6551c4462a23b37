"""The container file, linted; what hadolint warns of is wrong too."""

from __future__ import annotations

import subprocess

import pytest

from tests.docs.pages import ROOT

_HADOLINT = ROOT / ".venv-image" / "bin" / "hadolint"


def lint(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_HADOLINT, "--no-fail", "--failure-threshold", "style", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_dockerfile_is_clean():
    done = lint((ROOT / "Dockerfile").read_text())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("USER root", "DL3002"),
        ("RUN pip install numpy", "DL3013"),
        ("WORKDIR here", "DL3000"),
        ("ENTRYPOINT carousel-server", "DL3025"),
    ],
)
def test_a_fault_would_be_seen(line, rule):
    assert rule in lint(f"{(ROOT / 'Dockerfile').read_text()}{line}\n").stdout
