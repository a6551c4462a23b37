"""The demo's tables, and its chart with a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from carousel_exporter.baselines import Score
from examples.co2 import chart
from examples.co2.scoring import LSTM, Agreement
from examples.co2.series import Measured
from examples.co2.sessions import Track
from examples.common.tables import make_table

_CHART_LINES = 13
_CHART_WIDTH = 100


def stream_chart(measured: Measured, track: Track, *, ahead: int, width: int) -> RenderableType:
    """Draw what a session has forecast so far, over the held-out weeks that have come so far."""
    answers = track.answers
    truth = np.where(np.arange(len(measured.dates)) < len(answers), measured.values[:, 0], np.nan)
    held_out = slice(measured.first, None)
    axes = chart.Axes(
        low=np.floor(measured.values[held_out].min() - 0.5),
        high=np.ceil(measured.values[held_out].max() + 0.5),
        names=measured.new_years(),
    )
    legend = Text.assemble(
        "CO2 in ppm   ",
        ("⠒⠒⠒⠒", chart.LINE_STYLE),
        " measured   ",
        ("• • •", chart.MARK_STYLE),
        f" streamed forecast, made {ahead} weeks before",
    )
    drawn = chart.draw_chart(
        truth[held_out],
        measured.place(answers, ahead=ahead)[held_out],
        axes,
        width=min(width, _CHART_WIDTH),
        height=_CHART_LINES,
    )
    return Group(legend, drawn)


def agreement_table(agreements: Sequence[Agreement]) -> Table:
    """Return how streamed answers compare with PyTorch's, a row a way of streaming."""
    table = make_table("session", right=("answers", "calls", "off by (ppm)", "allowed (ppm)"))
    for found in agreements:
        table.add_row(
            found.name,
            f"{found.answers:,}",
            f"{found.calls:,}",
            f"{found.largest:.1e}",
            f"{found.allowed:.1e}",
            _verdict("equal" if found.equal else "differs", good=found.equal),
        )
    return table


def score_table(scores: Mapping[str, Score]) -> Table:
    """Return the errors of all forecasts, and how far the network's lies below each."""
    own = scores[LSTM].mae[0]
    table = make_table("forecast", right=("MAE (ppm)", "RMSE (ppm)"))
    for name, score in scores.items():
        better = own < score.mae[0]
        beside = f"beaten: the LSTM's is {1 - own / score.mae[0]:.0%} lower"
        verdict = _verdict(beside if better else "not beaten", good=bool(better))
        numbers = (f"{score.mae[0]:.3f}", f"{score.rmse[0]:.3f}")
        table.add_row(name, *numbers, "" if name == LSTM else verdict)
    return table


def _verdict(text: str, *, good: bool) -> Text:
    return Text(text, style="green" if good else "bold red")
