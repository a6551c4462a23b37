"""What the images install is pinned, hashed, up to date, and there for their Python."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib

import pytest

from tests.docs.pages import ROOT

pytestmark = pytest.mark.timeout(240)

_LOCKS = ROOT / "image"
_MADE = ["build", "cpu", "gpu", "exporter"]
_UV = ROOT / ".venv-image" / "bin" / "uv"
#: NAME==VERSION, perhaps a marker, and hashes on the lines that follow.
_PIN = re.compile(r"^([a-z0-9-]+==\S+)((?: ;[^\\\n]*)?) \\\n((?:    --hash=\S+(?: \\)?\n)+)", re.M)

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})\b")


def pins(text: str) -> set[str]:
    """Return the pinned versions with their markers; a file may gain hashes, and stays the same."""
    return {f"{pinned}{marker}" for pinned, marker, _ in _PIN.findall(text)}


def pinned(name: str) -> str:
    return (_LOCKS / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", [*_MADE, "torch"])
def test_each_line_is_a_pin_with_hashes_or_a_comment(name):
    """And so none names an index."""
    left = _PIN.sub("", pinned(name))
    assert [line for line in left.split("\n") if line and not line.lstrip().startswith("#")] == []
    assert pins(pinned(name))
    assert "://" not in pinned(name)


def test_locks_are_what_the_distributions_ask_for(tmp_path):
    """Resolved again, where nothing is newer than it was, they are the same."""
    for name in _MADE:
        shutil.copy(_LOCKS / f"{name}.txt", tmp_path)
    subprocess.run([ROOT / "scripts" / "lock-images", _UV, tmp_path], check=True, timeout=200)
    for name in _MADE:
        assert pins((tmp_path / f"{name}.txt").read_text()) == pins(pinned(name)), name


@pytest.mark.parametrize("name", _MADE)
def test_hashes_are_those_that_the_index_has(name, tmp_path):
    """Asked for again without them; a file that was changed or taken back would be seen."""
    asked = tmp_path / "asked.txt"
    asked.write_text("\n".join(sorted(pins(pinned(name)))))
    command = [
        *(_UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-deps"),
        *("--universal", "--python-version", "3.11", "--generate-hashes", asked),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    ours, theirs = ({*_HASH.findall(text)} for text in (pinned(name), done.stdout))
    assert len(ours) >= len(pins(pinned(name)))
    assert ours - theirs == set()


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        *(("cpu", "x86_64"), ("cpu", "aarch64"), ("gpu", "x86_64")),
        *(("exporter", "x86_64"), ("exporter", "aarch64")),
    ],
)
def test_there_are_wheels_for_the_official_images_python(name, machine, tmp_path):
    """Nothing is installed; with the stand-in's Python, building the image does that."""
    command = [
        *(_UV, "pip", "install", "--dry-run", "--require-hashes", "--only-binary", ":all:"),
        *("--python-version", "3.12", "--python-platform", f"{machine}-manylinux_2_28"),
        *("--target", tmp_path, "--requirement", _LOCKS / f"{name}.txt"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr


def test_pytorch_is_the_exporters():
    asked = tomllib.loads((ROOT / "exporter" / "pyproject.toml").read_text())["project"]
    (version,) = (found for found in asked["dependencies"] if found.startswith("torch=="))
    assert pins(pinned("torch")) == {f"{version}+cpu"}


def test_the_gpus_lock_has_what_onnx_runtime_needs_of_cuda():
    names = {pin.split("==")[0] for pin in pins(pinned("gpu"))}
    assert {"nvidia-cuda-runtime", "nvidia-cublas", "nvidia-cudnn-cu13"} <= names
    assert "onnxruntime" not in names, "two of them in one place break each other"
