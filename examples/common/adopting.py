"""Making a model of others into a model file, with the command that a user would type."""

from __future__ import annotations

from pathlib import Path

from examples.common.display import Display
from examples.common.errors import DemoError
from examples.common.exporting import run_export


def adopt(display: Display, model: Path, out: Path, *flags: str, source: str) -> None:
    """Adopt an ONNX file into a repository of models; `source` says where such a file is found.

    Raises DemoError where it is missing or refused.
    """
    if not model.is_file():
        raise DemoError(f"There is no file {model}; {source}.")
    run_export(display, "adopt", model, *flags, "--yes", "--out", out)
