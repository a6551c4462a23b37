"""gpu/stage.sh the whole way: cut, carried, checked, joined, installed into an empty environment.

With a small package of the same name, from a folder: it needs no index, and takes seconds.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "gpu" / "stage.sh"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
NEEDED = {"bash", "split", "sha256sum", "realpath"}
MISSING = sorted(tool for tool in NEEDED if not shutil.which(tool))

pytestmark = pytest.mark.skipif(
    bool(MISSING) and not os.environ.get("CI"), reason=f"not on this machine: {', '.join(MISSING)}"
)

CODE = """
__version__ = "1.31.1"
from needed_by_it import here
def get_available_providers():
    return ["CUDAExecutionProvider"] if here else []
"""


def put_wheel(folder: Path, name: str, module: str, files: dict[str, bytes], requires: str = ""):
    """Write a wheel by hand: a zip of files, with what they are and their digests."""
    info = f"{name}-1.31.1.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.31.1\n{needs}"
    files = files | {
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(folder / f"{name}-1.31.1-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record += f"{path},sha256={digest.decode()},{len(content)}\n"
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")


@pytest.fixture
def index(tmp_path):
    """Return what makes pip find two wheels, one of them of three parts, and look nowhere else."""
    wheels = tmp_path / "index"
    wheels.mkdir()
    large = os.urandom(2 * 1024 * 1024 + 5)
    files = {"onnxruntime/__init__.py": CODE.encode(), "onnxruntime/large.so": large}
    put_wheel(wheels, "onnxruntime_gpu", "onnxruntime", files, requires="needed-by-it")
    put_wheel(wheels, "needed_by_it", "needed_by_it", {"needed_by_it.py": b"here = True\n"})
    return {"PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}


def run(*words: object, environment: dict[str, str] | None = None):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        env=kept | {"PYTHON": sys.executable} | (environment or {}),
    )


@pytest.fixture
def cut(tmp_path, index):
    """Return a folder with the parts, carried file by file."""
    made = run(
        SCRIPT, "cut", "--python", PYTHON, "--part-mib", 1, tmp_path / "cut", environment=index
    )
    assert made.returncode == 0, made.stderr
    carried = tmp_path / "carried"
    carried.mkdir()
    for path in (tmp_path / "cut").iterdir():
        assert path.name in made.stdout, "it says what is to be carried"
        shutil.copy(path, carried)
    return carried


@pytest.fixture
def empty(tmp_path):
    """Return the Python of an environment with nothing in it but pip."""
    venv.create(tmp_path / "venv", with_pip=True)
    return tmp_path / "venv" / "bin" / "python"


def test_it_is_installed_where_there_is_no_index(cut, empty):
    parts = [p.stat().st_size for p in cut.glob("*.part-*")]
    assert max(parts) == 1024 * 1024
    assert len(parts) == 4
    done = run(cut / "stage.sh", "install", cut, empty)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "onnxruntime 1.31.1 ['CUDAExecutionProvider']\n"
    asked = run(empty, "-c", "import onnxruntime; print(onnxruntime.__version__)")
    assert asked.stdout == "1.31.1\n"


def test_a_part_that_was_changed_or_lost_is_noticed(cut, empty):
    part = next(cut.glob("onnxruntime_gpu*.part-001"))
    whole = part.read_bytes()
    for broken in (bytes([whole[0] ^ 1]) + whole[1:], whole[:-1], None):
        part.unlink()
        if broken is not None:
            part.write_bytes(broken)
        done = run(cut / "stage.sh", "install", cut, empty)
        assert done.returncode == 1
        assert "a part is missing or was changed on its way" in done.stderr
        part.write_bytes(whole)
    assert run(empty, "-c", "import onnxruntime").returncode == 1, "nothing was installed"


def test_two_with_the_same_files_are_not_mixed(cut, empty, tmp_path):
    put_wheel(tmp_path, "onnxruntime", "onnxruntime", {"onnxruntime/__init__.py": b""})
    wheel = next(tmp_path.glob("onnxruntime-*.whl"))
    assert run(empty, "-m", "pip", "install", "--no-index", wheel).returncode == 0
    done = run(cut / "stage.sh", "install", cut, empty)
    assert done.returncode == 1
    assert "uninstall it first" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ((), 2, "usage: gpu/stage.sh cut"),
        (("cut",), 1, "a folder was expected"),
        (("cut", "--what", "x"), 1, "unknown option --what"),
        (("cut", "."), 1, "is there already"),
        (("install", "/not/there"), 1, "a folder with the parts was expected"),
        (("install", "."), 1, "lacks PARTS or WHEELS"),
    ],
)
def test_what_is_wrong_is_said(words, status, told):
    done = run(SCRIPT, *words)
    assert done.returncode == status
    assert told in done.stderr


def test_help():
    done = run(SCRIPT, "--help")
    assert done.returncode == 0
    assert "where an index is within reach" in done.stdout
