"""ONNX Runtime reports to nobody from here."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: What a process needs to start. Little else: ONNX Runtime does not report where it sees a CI.
_NEEDED = ("PATH", "LD_", "OPENBLAS_")


def kept_by_an_import_of(module, home):
    """Import it in a process of its own; return whether something was kept in the home folder."""
    home.mkdir()
    variables = {k: v for k, v in os.environ.items() if k.startswith(_NEEDED)}
    subprocess.run(
        [sys.executable, "-c", f"import {module}"], env=variables | {"HOME": str(home)}, check=True
    )
    return any(home.rglob("*"))


@pytest.mark.parametrize("module", ["carousel_server.runtime.device", "carousel_exporter.runner"])
def test_nothing_is_kept_of_this_machine(module, tmp_path):
    """Where ONNX Runtime reports, it keeps a number for the machine, from its import on."""
    if not kept_by_an_import_of("onnxruntime", tmp_path / "plain"):
        pytest.skip("this build of ONNX Runtime reports to nobody by itself")
    assert not kept_by_an_import_of(module, tmp_path / "ours")
