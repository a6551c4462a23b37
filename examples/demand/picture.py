"""The picture: two weeks forecast a day ahead, and how soon a new session catches up."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.dates import ConciseDateFormatter, DayLocator
from matplotlib.figure import Figure
from numpy.typing import NDArray

from carousel_exporter.files import replacing
from examples.demand.calendar import DAY
from examples.demand.scoring import Scores

_TRUTH = "#1f2937"
_FORECAST = "#c026d3"
_NAIVE = "#94a3b8"


def draw_picture(
    path: Path,
    times: list[datetime],
    demand: NDArray[Any],
    forecast: NDArray[Any],
    scores: Scores,
) -> None:
    """Write the picture as a PNG.

    `times` and `demand` (T,) are of the held-out half hours; forecast t was made at time t for a
    day later.
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(1.5, 1))
    gigawatts = 1 / 1000
    above.set_title("Electricity demand in England and Wales, forecast a day ahead as it comes in")
    dates: Any = times  # matplotlib takes dates, and doesn't say so
    above.plot(dates, demand * gigawatts, color=_TRUTH, linewidth=1.2, label="measured")
    above.plot(
        dates[DAY:],
        forecast[:-DAY] * gigawatts,
        color=_FORECAST,
        linewidth=1.2,
        label="streamed forecast, made a day before",
    )
    above.set_ylabel("demand (GW)")
    days = DayLocator()  # type: ignore[no-untyped-call]
    above.xaxis.set_major_locator(days)
    above.xaxis.set_major_formatter(ConciseDateFormatter(days))  # type: ignore[no-untyped-call]
    above.margins(x=0.01)
    below.set_title("A session that was just opened catches up with one that has always been open")
    hours = np.arange(len(scores.new)) / 2
    below.plot(hours, scores.new, color=_FORECAST, linewidth=1.4, label="new sessions")
    below.plot(hours, scores.beside, color=_TRUTH, linewidth=1.0, label="the old one, then")
    below.axhline(
        scores.naive, color=_NAIVE, linestyle="--", label="seasonal naive: as a week before"
    )
    below.set_xlabel("hours since a session was opened")
    below.set_ylabel("mean absolute error (MW)")
    below.set_ylim(bottom=0)
    below.margins(x=0.01)
    for panel in (above, below):
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
