"""Who may import whom: facts that an import proves, not a promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: What each package's import must not bring in.
FORBIDDEN = {
    "carousel.wire": {"numpy", "onnx", "onnxruntime", "torch"},
    "carousel_client": {"onnx", "onnxruntime", "torch", "typer", "rich"},
    "carousel_client.aio": {"onnx", "onnxruntime", "torch", "typer", "rich"},
    "carousel_server.app": {"torch", "carousel_client", "carousel_exporter"},
    "carousel_server.__main__": {"grpc", "numpy", "onnx", "onnxruntime"},  # `drain` needs none
    "carousel_server.engine.engine": {"grpc", "google", "carousel", "onnx", "onnxruntime"},
    "carousel_server.keeping.starting": {"grpc", "onnx", "onnxruntime", "redis"},
    "carousel_server.keeping.verifying": {"grpc", "onnx", "onnxruntime", "redis"},
    "carousel_server.store.redis": {"grpc", "google", "carousel", "onnx", "numpy"},
    "carousel_server.runtime.model": {"grpc", "torch"},
    "carousel_exporter.cli": {"grpc", "carousel_client", "carousel_server"},
}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_an_import_stays_within_its_distribution(package):
    script = f"import sys, {package}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not FORBIDDEN[package] & set(done.stdout.split())


def test_import_contracts():
    """The rules between modules, from pyproject.toml."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout
