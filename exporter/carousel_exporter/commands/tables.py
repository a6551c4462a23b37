"""Tables that commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import rich.box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from carousel_exporter.baselines import Score
from carousel_exporter.equality import Difference
from carousel_exporter.verification import Report
from carousel_exporter.wording import steps


def table(title: str, *columns: str, numbers: Sequence[str] = (), header: bool = True) -> Table:
    """Return an empty table; columns named in `numbers` are right-aligned."""
    result = Table(
        title=escape(title),
        box=rich.box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        show_header=header,
    )
    for column in columns:
        side: Literal["left", "right"] = "right" if column in numbers else "left"
        result.add_column(column, justify=side, overflow="fold")  # a name cut short is no name
    return result


def score_table(
    scores: Mapping[str, Score], targets: Sequence[str], unit: str, horizon: int, count: int
) -> Table:
    """Return test errors, one row a forecast and target, beside the network's gain on each."""
    in_unit = f" ({unit})" if unit else ""
    (own, first), *_ = scores.items()
    mae, rmse, than = f"MAE{in_unit}", f"RMSE{in_unit}", f"{own}'s MAE is"
    title = f"Errors {steps(horizon)} ahead, over {steps(count)} held out"
    result = table(title, "forecast", "target", mae, rmse, than, numbers=(mae, rmse, than))
    for place, target in enumerate(targets):
        for name, score in scores.items():
            beside = "" if name == own else _gain(first.mae[place], score.mae[place])
            errors = (f"{score.mae[place]:#.4g}", f"{score.rmse[place]:#.4g}")
            result.add_row(name, escape(target), *errors, beside)
    return result


def print_report(console: Console, report: Report) -> None:
    """Print what a verification found, and what it could not look at."""
    title = "Largest differences, relative to max(1, |reference|)"
    result = table(title, "run as", "answers", "states", "allowed", "", numbers=("allowed",))
    for check in report.checks:
        verdict = "[green]equal[/]" if check.passed else "[red]differs[/]"
        states = _cell(check.states) if check.states else "not compared"
        worst = max((d for d in (check.outputs, check.states) if d), key=lambda d: d.excess)
        result.add_row(check.name, _cell(check.outputs), states, f"{worst.tolerance:.0e}", verdict)
    console.print(result)
    for note in report.notes:
        console.print(f"note: {escape(note)}", soft_wrap=True)


def _cell(difference: Difference) -> str:
    if difference.value == 0:
        return "0"
    value = "not finite" if difference.value == float("inf") else f"{difference.value:.1e}"
    return f"{value} ({escape(difference.tensor)})"


def _gain(own: float, other: float) -> str:
    """Say how far one error is below or above another."""
    if other == 0:
        return "not below 0"
    change = own / other - 1
    return f"{abs(change):.0%} {'lower' if change < 0 else 'higher'}"
