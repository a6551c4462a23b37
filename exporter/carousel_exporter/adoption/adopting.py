"""From somebody's ONNX file to a model file that Carousel serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from carousel_exporter.adoption.options import Options
from carousel_exporter.adoption.reading import read
from carousel_exporter.adoption.report import AdoptionReport, Proposal
from carousel_exporter.errors import ModelFileError
from carousel_exporter.files import check_writable

Confirm = Callable[[Proposal], bool]


def adopt(
    path: Path, out: Path, options: Options, confirm: Confirm | None = None
) -> AdoptionReport:
    """Write the canonical form of an ONNX file to `out`, after its numbers were found equal.

    `confirm` is asked once, before anything is written, where states were proposed rather than
    stated; without it a proposal that was proved is taken. Raises ExporterError, with nothing
    written, where the file can't be served or can't be proved.
    """
    check_writable(out)
    original = read(path)
    raise ModelFileError(f"{original.path} can't be adopted yet.")
