"""Tables of words and numbers, and the one of what a server counted."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from examples.common.metrics import Figures


def figure_table(figures: Figures, *, model: str = "") -> Table:
    """Return what the server counted, of the model where there are several."""
    of = f" of {model}" if model else ""
    table = make_table(f"what the server counted{of}, from /metrics", right=("",), last=False)
    table.add_row("sessions opened", f"{figures.sessions:,}")
    table.add_row("steps applied", f"{figures.steps:,}")
    table.add_row("ticks (runs of the model, shared by sessions)", f"{figures.ticks:,}")
    table.add_row("rows a tick, mean", f"{figures.rows_a_tick:.1f}")
    table.add_row("time of a message, mean", f"{figures.milliseconds_a_message:.2f} ms")
    return table


def make_table(first: str, *, right: Sequence[str], last: bool = True) -> Table:
    """Return a table of one column of words, some of numbers and, with `last`, one of words."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right")
    if last:
        table.add_column("")
    return table
