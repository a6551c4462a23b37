"""The text to learn from: one that was given, Shakespeare's where it is at hand, or our own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from carousel_exporter.corpus import read_text
from carousel_exporter.files import replacing

_ROOT: Final = Path(__file__).parents[2]
#: Where texts of others may lie: see CONTRIBUTING.md.
VARIABLE: Final = "CAROUSEL_TEST_DATA"
#: Characters that a quick run learns from, from the beginning.
QUICK: Final = 60_000


def find_text(given: Path | None) -> tuple[str, str]:
    """Return the text to learn from and what it is, in words.

    Raises DataError where the file that was given is no text.
    """
    if given is not None:
        return read_text(given), str(given)
    folder = os.environ.get(VARIABLE)
    shakespeare = Path(folder) / "data" / "tinyshakespeare.txt" if folder else None
    if shakespeare is not None and shakespeare.is_file():
        return read_text(shakespeare), "40,000 lines of Shakespeare"
    return _documentation(), "Carousel's own documentation"


def write_text(text: str, path: Path, *, quick: bool) -> None:
    """Write the text to learn from, or its beginning."""
    with replacing(path) as temporary:
        temporary.write_text(text[:QUICK] if quick else text, encoding="utf-8", newline="\n")


def _documentation() -> str:
    """Return the pages of this repository, the decision records mixed in among them."""
    pages = [
        path
        for path in sorted(_ROOT.glob("**/*.md"), key=lambda path: (path.name, str(path)))
        if not any(part.startswith(".") or part == "node_modules" for part in path.parts)
    ]
    return "\n\n".join(read_text(page) for page in pages)
