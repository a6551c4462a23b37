"""A training run as one HTML page: no scripts, no other files, pictures inside."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from carousel_exporter.files import replacing
from carousel_exporter.plots import curves_figure
from carousel_exporter.training import Epoch

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { padding: .2rem .9rem .2rem 0; text-align: left; }
th { border-bottom: 1px solid #888; } td.number, th.number { text-align: right; }
svg { width: 100%; height: auto; }
"""


def write_report(
    path: Path,
    *,
    title: str,
    lines: Sequence[str],
    table: Table,
    figure: Figure,
    epochs: Sequence[Epoch],
    settings: Mapping[str, object],
) -> None:
    """Write the page: what the data are, the table, the picture, the curves and the settings."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in lines),
        _table(table),
        _svg(figure),
        "<h2>Losses</h2>",
        _svg(curves_figure(epochs, unit="loss")),
        "<h2>Settings</h2>",
        _settings(settings),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    page = f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _table(table: Table) -> str:
    """Return a table as the terminal shows it, in HTML."""
    classes = [' class="number"' if c.justify == "right" else "" for c in table.columns]
    header = "".join(
        f"<th{kind}>{_plain(column.header)}</th>"
        for kind, column in zip(classes, table.columns, strict=True)
    )
    rows = zip(*(column.cells for column in table.columns), strict=True)
    lines = [
        "".join(f"<td{kind}>{_plain(cell)}</td>" for kind, cell in zip(classes, row, strict=True))
        for row in rows
    ]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<h2>{_plain(table.title)}</h2>\n<table>\n<tr>{header}</tr>\n{body}\n</table>"


def _plain(cell: object) -> str:
    return escape(Text.from_markup(str(cell or "")).plain)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _settings(settings: Mapping[str, object]) -> str:
    rows = "\n".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in settings.items()
    )
    return f"<table>\n{rows}\n</table>"
