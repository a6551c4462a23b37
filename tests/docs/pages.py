"""The documentation as the tests see it: pages, code blocks, tables, and places in the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: `path/to/file.py:Name.method`, as the docs point to code.
_PLACE = re.compile(r"`([\w./-]+\.py):(\w+(?:\.\w+)?)`")
#: `path/to/file`, where it has a folder and an ending, or ends in a slash.
_PATH = re.compile(
    r"`((?:\.ci|benchmarks|client|docs|examples|exporter|helm|image|proto|scripts|server|tests)/[\w./-]*)`"
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Return every page of the repository's documentation."""
    tops = ("*.md", "docs/**/*.md", "*/README.md", "examples/**/*.md")
    return sorted({page for top in tops for page in ROOT.glob(top)})


def text(name: str) -> str:
    """Return a page by its path from the root."""
    return (ROOT / name).read_text()


def blocks(page: str, kind: str) -> list[str]:
    """Return the contents of a page's code blocks whose fence says `kind`."""
    return [content for found, content in _FENCE.findall(text(page)) if found.strip() == kind]


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return _FENCE.sub("", page.read_text())


def tables(page: str, first_header: str) -> list[list[str]]:
    """Return the rows, as cells, of the tables whose first column is headed so."""
    rows: list[list[str]] = []
    within = False
    for line in text(page).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            within = False
        elif cells[0] == first_header:
            within = True
        elif within and not set(line) <= set("|-: "):
            rows.append(cells)
    return rows


def code_places(page: Path) -> list[tuple[str, str]]:
    """Return the `(file, name)` of the code that a page points to."""
    return _PLACE.findall(prose(page))


def paths(page: Path) -> list[str]:
    """Return the paths in the repository that a page speaks of."""
    return _PATH.findall(prose(page))


def links(page: Path) -> list[str]:
    """Return where a page's links go to."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def defined(path: Path) -> set[str]:
    """Return the names of a module's functions and classes, and of their methods."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if hasattr(part, "name")}
    return names
