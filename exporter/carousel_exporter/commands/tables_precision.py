"""The tables of `shrink`: size, speed, error."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape

from carousel_exporter.commands.tables import table
from carousel_exporter.precision.report import ShrinkReport
from carousel_exporter.wording import steps


def print_shrunk(console: Console, report: ShrinkReport) -> None:
    """Print what became smaller, faster and less exact."""
    name = str(report.precision)
    sizes = table(
        "Size and speed on this machine", "", "float32", name, "", numbers=("float32", name)
    )
    for what, (before, after) in (
        ("file, bytes", report.file_bytes),
        ("state of a session, bytes", report.state_bytes),
    ):
        sizes.add_row(what, f"{before:,}", f"{after:,}", f"{after / before:.2f} of it")
    for speed in report.speeds:
        rows = "1 row" if speed.rows == 1 else f"{speed.rows} rows"
        what = f"{rows}, {steps(speed.steps)}, µs a run"
        times = (f"{speed.float32:,.1f}", f"{speed.new:,.1f}")
        sizes.add_row(what, *times, f"{speed.gain:.2f} x as fast")
    console.print(sizes)
    errors = table(
        f"Error against float32: {report.inputs}",
        *("output", "rms", "largest", "of its spread", "by quarters of the stream"),
        numbers=("rms", "largest", "of its spread"),
    )
    for error in report.errors:
        quarters = " ".join(f"{part:.2%}" for part in error.parts)
        share = f"{error.share:.2%}"
        errors.add_row(
            escape(error.output), f"{error.rms:.2e}", f"{error.largest:.2e}", share, quarters
        )
    console.print(errors)
    verdict = "" if report.within_bound else ", which it is above: accepted"
    lines = [f"bound: {report.bound.value:.0%} of the spread{verdict}"]
    lines.append(f"rows: {report.batching}")
    lines += [f"scales: {report.scales}"] if report.scales else []
    # Steps of one layer stand in the file twice; one reason stands for all that share it.
    for why, count in Counter(report.left.values()).items():
        names = [name for name, reason in report.left.items() if reason == why]
        more = f" and {count - 2} more" if count > 2 else ""
        lines.append(f"left as it was: {', '.join(names[:2])}{more}: {why}")
    for line in lines:
        console.print(escape(line), soft_wrap=True, highlight=False)
