"""The picture that the demo leaves: what was measured, what was forecast, and the error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from carousel_exporter.files import replacing
from examples.co2.series import Measured

_TRUTH = "#1f2937"
_FORECAST = "#c026d3"
_NAIVE = "#94a3b8"


def draw_picture(
    path: Path,
    measured: Measured,
    answers: NDArray[np.floating],
    *,
    ahead: int,
    history: int = 400,
) -> None:
    """Write the picture as a PNG, with `history` weeks before the held-out ones.

    `answers`, (N, 1), are forecasts `ahead` weeks ahead; they stand at the week that they speak of.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
    held_out = slice(measured.first, None)
    shown = slice(max(0, measured.first - history), None)
    days = np.array(measured.dates, dtype="datetime64[D]")
    truth = measured.values[:, 0]
    forecast = measured.place(answers, ahead=ahead)
    persistence = measured.place(measured.values, ahead=ahead)

    above.set_title("CO2 over Mauna Loa, weekly; the shaded years were held out, then streamed")
    above.plot(days[shown], truth[shown], color=_TRUTH, linewidth=1.2, label="measured")
    above.plot(
        days[held_out],
        forecast[held_out],
        color=_FORECAST,
        linewidth=1.2,
        label=f"streamed forecast, made {ahead} weeks before",
    )
    above.set_ylabel("CO2 (ppm)")
    below.axhline(0, color=_TRUTH, linewidth=0.8)
    for values, colour, label in (
        (persistence, _NAIVE, f"persistence (as {ahead} weeks before)"),
        (forecast, _FORECAST, "streamed forecast"),
    ):
        error = (values - truth)[held_out]
        below.plot(days[held_out], error, color=colour, linewidth=1.0, label=label)
    below.set_ylabel("error (ppm)")
    for panel in (above, below):
        panel.axvspan(days[measured.first], days[-1], color=_FORECAST, alpha=0.06, linewidth=0)
        panel.grid(alpha=0.3)
        panel.legend(loc="upper left", frameon=False, fontsize="small")
        panel.margins(x=0.01)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
