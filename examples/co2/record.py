"""Keeping what the terminal shows, as a picture that a web page can hold."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console

#: Wide enough for the tables, narrow enough to be read in a page's column.
WIDTH = 88


def make_console(*, record: bool) -> Console:
    """Return the demo's console; one that records has a width of its own."""
    return Console(highlight=False, record=record, width=WIDTH if record else None)


def forget(console: Console) -> None:
    """Leave what a console has shown so far out of its recording."""
    if console.record:
        console.export_text(clear=True)


def save_svg(console: Console, path: Path, *, title: str) -> None:
    """Write what a recording console has shown as an SVG that fetches nothing."""
    svg = console.export_svg(title=title, unique_id="carousel-demo")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # fonts from elsewhere
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
