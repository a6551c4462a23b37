"""What the built image says of itself, and what is in it."""

from __future__ import annotations

import json

import pytest

from carousel_server import __version__
from tests.image.containers import IMAGE, podman, run

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def config():
    return json.loads(podman("inspect", "--type", "image", IMAGE).stdout)[0]["Config"]


def test_it_says_how_it_runs(config):
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["carousel-server"]
    assert config["StopSignal"] == "SIGTERM"
    assert {*config["ExposedPorts"]} == {"8001/tcp", "8002/tcp"}


def test_it_says_what_it_is(config):
    label = "org.opencontainers.image."
    labels = {k.removeprefix(label): v for k, v in config["Labels"].items() if label in k}
    assert labels["title"] == "carousel-server"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == __version__
    assert len(labels["revision"]) == 40
    assert labels["created"][:2] == "20"


def test_it_runs_without_any_flag_but_the_commands_own():
    done = run("--read-only", command=["--version"])
    assert (done.returncode, done.stdout.strip()) == (0, f"carousel-server {__version__}")


def look(script):
    done = run("--read-only", "--entrypoint", "python", command=["-c", script])
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_it_has_the_server_and_no_more():
    names = "carousel_server carousel onnxruntime carousel_client carousel_exporter torch pip"
    found = look(
        "import importlib.util as u\n"
        f"print(*[name for name in {names.split()} if u.find_spec(name)])"
    )
    assert found == ["carousel_server", "carousel", "onnxruntime"]


def test_every_module_has_its_bytecode():
    """Nothing could keep it, and every start would make it anew."""
    lacking = look(
        "import importlib.util as u, pathlib, sysconfig\n"
        "for path in pathlib.Path(sysconfig.get_path('purelib')).rglob('*.py'):\n"
        "    if not pathlib.Path(u.cache_from_source(path)).exists(): print(path)"
    )
    assert lacking == []
