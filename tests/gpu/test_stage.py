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
NEEDED = {"bash", "split", "sha256sum", "mktemp", "du", "awk"}
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


def put_wheel(
    folder: Path,
    name: str,
    files: dict[str, bytes],
    *,
    requires: str = "",
    version: str = "1.31.1",
):
    """Write a wheel by hand: a zip of files, with what they are and their digests."""
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    files = files | {
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
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
    put_wheel(wheels, "onnxruntime_gpu", files, requires="needed-by-it")
    put_wheel(wheels, "needed_by_it", {"needed_by_it.py": b"here = True\n"})
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


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """Return another one, for tests that install nothing."""
    folder = tmp_path_factory.mktemp("untouched")
    venv.create(folder, with_pip=True)
    yield folder / "bin" / "python"
    imported = run(folder / "bin" / "python", "-c", "import onnxruntime")
    assert imported.returncode == 1, "nothing was installed"


def test_it_is_installed_where_there_is_no_index(cut, empty):
    parts = [p.stat().st_size for p in cut.glob("*.part-*")]
    assert max(parts) == 1024 * 1024
    assert len(parts) == 4
    done = run(cut / "stage.sh", "install", cut, empty)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "onnxruntime 1.31.1 ['CUDAExecutionProvider']\n"
    asked = run(empty, "-c", "import onnxruntime; print(onnxruntime.__version__)")
    assert asked.stdout == "1.31.1\n"


def test_it_may_be_run_again(cut, empty):
    first = run(cut / "stage.sh", "install", cut, empty)
    again = run(cut / "stage.sh", "install", cut, empty)
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")


def test_another_version_gives_way_and_what_it_needs_stays(cut, empty, tmp_path):
    """PyTorch may be there already, with packages that ONNX Runtime needs too."""
    for name, code in (("onnxruntime_gpu", b""), ("needed_by_it", b"here = 'already'\n")):
        module = name.removesuffix("_gpu")
        put_wheel(tmp_path, name, {f"{module}/__init__.py": code}, version="1.30.0")
    older = tmp_path.glob("*-1.30.0-*.whl")
    assert run(empty, "-m", "pip", "install", "--no-index", *older).returncode == 0
    done = run(cut / "stage.sh", "install", cut, empty)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "onnxruntime 1.31.1 ['CUDAExecutionProvider']\n"
    assert run(empty, "-c", "import needed_by_it as n; print(n.here)").stdout == "already\n"


def test_a_copy_of_a_part_beside_it_is_not_taken(cut, empty):
    part = next(cut.glob("onnxruntime_gpu*.part-001"))
    shutil.copy(part, f"{part} (1)")
    done = run(cut / "stage.sh", "install", cut, empty)
    assert done.returncode == 0, done.stderr


def test_a_part_that_was_changed_or_lost_is_named(cut, untouched):
    for part in (next(cut.glob("onnxruntime_gpu*.part-001")), cut / "WHEELS", cut / "PYTHON"):
        whole = part.read_bytes()
        for broken in (bytes([whole[0] ^ 1]) + whole[1:], whole[:-1]):
            part.write_bytes(broken)
            done = run(cut / "stage.sh", "install", cut, untouched)
            assert done.returncode == 1
            assert "a part is missing or was changed on its way" in done.stderr
            assert f"{part.name}: FAILED" in done.stderr
        part.unlink()
        done = run(cut / "stage.sh", "install", cut, untouched)
        assert done.returncode == 1
        assert part.name in done.stderr
        part.write_bytes(whole)


def test_a_list_of_parts_that_was_changed_is_noticed(cut, untouched):
    """A line that is none, a line less, and nothing at all."""
    parts = cut / "PARTS"
    whole = parts.read_text()
    last = whole.splitlines(keepends=True)[-1]
    for broken in (whole.replace("  ", " ", 1), whole.removesuffix(last), ""):
        parts.write_text(broken)
        done = run(cut / "stage.sh", "install", cut, untouched)
        assert done.returncode == 1
        assert "stage.sh: " in done.stderr


def test_another_python_than_the_parts_are_for_is_refused(tmp_path, index, untouched):
    other = "3.14" if PYTHON != "3.14" else "3.13"
    made = run(SCRIPT, "cut", "--python", other, tmp_path / "cut", environment=index)
    assert made.returncode == 0, made.stderr
    done = run(tmp_path / "cut" / "stage.sh", "install", tmp_path / "cut", untouched)
    assert done.returncode == 1
    assert f"is Python {PYTHON}, and the parts are for {other}" in done.stderr


def test_what_is_no_python_is_refused(cut, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False)
    for python, told in (
        (tmp_path / "nothing", "is no Python 3 that can be run here"),
        ("true", "is no Python 3 that can be run here"),
        (tmp_path / "bare" / "bin" / "python", "has no pip"),
    ):
        done = run(cut / "stage.sh", "install", cut, python)
        assert done.returncode == 1
        assert f"stage.sh: {python} {told}" in done.stderr


def test_what_could_not_be_downloaded_leaves_nothing_behind(tmp_path, index):
    folder = tmp_path / "cut here"
    done = run(SCRIPT, "cut", "--version", "9.9.9", folder, environment=index)
    assert done.returncode == 1
    assert "onnxruntime-gpu 9.9.9 for Python 3.12 could not be downloaded" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    again = run(SCRIPT, "cut", "--python", PYTHON, folder, environment=index)
    assert again.returncode == 0, again.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut here", "index"]
    assert run(SCRIPT, "cut", folder, environment=index).returncode == 1, "it is there already"


def test_two_with_the_same_files_are_not_mixed(cut, empty, tmp_path):
    put_wheel(tmp_path, "onnxruntime", {"onnxruntime/__init__.py": b""})
    wheel = next(tmp_path.glob("onnxruntime-*.whl"))
    assert run(empty, "-m", "pip", "install", "--no-index", wheel).returncode == 0
    done = run(cut / "stage.sh", "install", cut, empty)
    assert done.returncode == 1
    assert "uninstall it first" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ((), 2, "usage: gpu/stage.sh cut"),
        (("copy",), 1, "cut or install was expected, not copy"),
        (("cut",), 1, "a folder was expected"),
        (("cut", "--what", "x"), 1, "unknown option --what"),
        (("cut", "."), 1, "is there already"),
        (("cut", "--python"), 1, "--python needs a value"),
        (("cut", "one", "two"), 1, "one folder was expected, not one and two"),
        (("cut", "--python", "3.12.1", "x"), 1, "a version such as 3.12 was expected, not 3.12.1"),
        (("cut", "--part-mib", "0", "x"), 1, "a whole number above 0 was expected, not 0"),
        (("cut", "--part-mib", "many", "x"), 1, "a whole number above 0 was expected, not many"),
        (("install", "/not/there"), 1, "a folder with the parts was expected"),
        (("install",), 1, "a folder with the parts was expected"),
        (("install", "."), 1, ". lacks PARTS"),
        (("install", "--now", "."), 1, "unknown option --now"),
        (("install", ".", "python3", "more"), 1, "and no more: more"),
    ],
)
def test_what_is_wrong_is_said(words, status, told):
    done = run(SCRIPT, *words)
    assert done.returncode == status
    assert told in done.stderr
    assert "line " not in done.stderr, "the shell itself has nothing to complain of"


@pytest.mark.parametrize("words", [("--help",), ("cut", "--help"), ("install", "-h")])
def test_help(words):
    done = run(SCRIPT, *words)
    assert done.returncode == 0
    assert "where an index is within reach" in done.stdout
