"""The picture: how well each network remembers, over how long ago it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, PercentFormatter

from carousel_exporter.files import replacing
from examples.memory.grid import Outcome
from examples.memory.networks import NETWORKS
from examples.memory.problems import PROBLEMS, Problem
from examples.memory.summary import Spread, spreads

_INK: Final = "#1f2937"
_CHANCE: Final = "#94a3b8"
_COLOURS: Final = {"rnn": "#ea580c", "gru": "#0891b2", "lstm": "#c026d3"}
_MARKERS: Final = {"rnn": "v", "gru": "s", "lstm": "o"}


def draw_picture(path: Path, outcomes: Sequence[Outcome], problems: Sequence[str]) -> None:
    """Write the picture as a PNG: a panel a problem, medians as lines, ranges as bands."""
    figure = Figure(figsize=(10, 4.6), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(problems), squeeze=False)[0]
    for panel, name in zip(panels, problems, strict=True):
        _draw(panel, PROBLEMS[name], spreads(outcomes, name))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _draw(panel: Axes, problem: Problem, by_network: Mapping[str, Mapping[int, Spread]]) -> None:
    lags: list[int] = []
    for place, (name, by_lag) in enumerate(by_network.items()):
        network, lags = NETWORKS[name], [*by_lag]
        # A little beside each other, so that lines of the same height are all seen.
        x = np.array(lags) * 1.05 ** (place - (len(by_network) - 1) / 2)
        low, middle, high = (
            np.array([taken(by_lag[lag].scores) for lag in lags]) for taken in (min, np.median, max)
        )
        colour = _COLOURS[network.cell]
        panel.plot(
            x,
            middle,
            color=colour,
            linewidth=1.8 if network.careful else 1.2,
            linestyle="-" if network.careful else (0, (4, 2)),
            marker=_MARKERS[network.cell],
            markersize=5,
            markerfacecolor=colour if network.careful else "white",
            label=network.title,
        )
        panel.vlines(x, low, high, color=colour, linewidth=1.2, alpha=0.6)
    panel.axhline(problem.chance, color=_CHANCE, linewidth=1.2, linestyle=":")
    panel.annotate(
        f"chance: {problem.words(problem.chance)}",
        (0.01, problem.chance),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="left",
        fontsize=9,
        color="#64748b",
    )
    panel.set_title(problem.title.capitalize(), fontsize=11, color=_INK)
    panel.set_ylabel(f"{problem.measure} at the last step")
    panel.set_xlabel("steps")
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(lags))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xticks(lags, [str(lag) for lag in lags])
    panel.minorticks_off()
    if problem.better > 0:
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_ylim(0.45, 1.03)
    else:
        panel.set_ylim(0, 0.2)
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
