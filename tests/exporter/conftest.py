"""Adopting a file that must be refused, from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from carousel_exporter.cli import main


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch) -> Callable[..., str]:
    """Adopt a file with flags, and return the sentence with which that is refused."""

    def adopt(path: Path, *flags: str) -> str:
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setenv("NO_COLOR", "1")
        out = tmp_path / "out" / "model.onnx"
        status = main(["adopt", str(path), *flags, "--yes", "--out", str(out)])
        error = capsys.readouterr().err
        assert status == 1, error
        assert error.startswith("error: "), error
        assert error.count("\n") == 1, error
        assert "Traceback" not in error
        assert not out.parent.exists() or not list(out.parent.iterdir())
        return error

    return adopt
