"""Draw the Grafana dashboard's panels from a Prometheus, without a Grafana.

Each panel's own queries are asked of Prometheus's HTTP API, with Grafana's variables filled in for
all pods and models of a namespace. Colours, units and axes follow what the panels say. A row that
is folded in Grafana is drawn where there is something in it to show.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")  # before pyplot looks for a display

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

DASHBOARD = Path(__file__).parents[1] / "carousel" / "files" / "dashboard.json"

_PAGE, _PANEL, _GRID, _TEXT, _FAINT = "#111217", "#181b1f", "#2c3235", "#ccccdc", "#8e8e9a"
_COLOURS = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#b877d9", "#37872d", "#fade2a")
_COLUMNS, _INCHES_A_COLUMN, _INCHES_A_LINE = 24, 0.92, 0.36
_GAP = 1.5  # steps
_LEGENDS = 6  # a panel this small has room for no more
_EXAMPLES = """\
examples:
  python helm/tools/picture.py --prometheus http://localhost:9090 --namespace prod --minutes 60
"""


@dataclass(frozen=True)
class Span:
    """What is drawn: seconds since 1970, between two points, and within a rate."""

    begin: float
    end: float
    step: float
    window: float


@dataclass(frozen=True)
class Line:
    """One series of a panel: times in seconds from the beginning, values, and its legend."""

    name: str
    times: list[float]
    values: list[float]


def filled_in(query: str, namespace: str, window: float) -> str:
    """Return a query as Grafana would send it, for all pods and models."""
    words = {"$__rate_interval": f"{window:g}s", "$namespace": namespace}
    for variable, value in {**words, "$pod": ".*", "$model": ".*"}.items():
        query = query.replace(variable, value)
    return query


def lines_of(panel: dict[str, Any], prometheus: str, namespace: str, span: Span) -> list[Line]:
    """Return what a panel's queries give."""
    found = []
    for target in panel["targets"]:
        query = filled_in(target["expr"], namespace, span.window)
        asked = {"query": query, "start": span.begin, "end": span.end, "step": span.step}
        url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - the user's own
            result = json.load(answer)["data"]["result"]
        found += [_line(target["legendFormat"], series, span) for series in result]
    return [line for line in found if not all(map(math.isnan, line.values))]


def _line(legend: str, series: dict[str, Any], span: Span) -> Line:
    for label, value in series["metric"].items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    # A method's package is the same in all of them, and leaves no room for its name.
    line = Line(legend.replace("/carousel.v1.", "").replace("/grpc.health.v1.", ""), [], [])
    for at, value in series["values"]:
        seconds = float(at) - span.begin
        if line.times and seconds - line.times[-1] > _GAP * span.step:
            line.times.append(seconds)  # nothing is drawn over what is missing
            line.values.append(math.nan)
        line.times.append(seconds)
        line.values.append(float(value))
    return line


def draw(prometheus: str, namespace: str, span: Span, out: Path) -> list[str]:
    """Draw all panels into a PNG file, and return the titles of those that have nothing to show."""
    drawn = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        drawn.append((panel, _lines(panel, prometheus, namespace, span)))
        folded = [
            (each, _lines(each, prometheus, namespace, span)) for each in panel.get("panels", [])
        ]
        if any(lines for _, lines in folded):
            drawn += folded
        elif folded:
            drawn.pop()
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel, _ in drawn)
    size = (_COLUMNS * _INCHES_A_COLUMN, height * _INCHES_A_LINE)
    figure = plt.figure(figsize=size, facecolor=_PAGE)
    for panel, lines in drawn:
        _draw(figure, panel, lines, span, height)
    figure.savefig(out, dpi=80, facecolor=_PAGE)
    plt.close(figure)
    return [panel["title"] for panel, lines in drawn if panel["type"] != "row" and not lines]


def _lines(panel: dict[str, Any], prometheus: str, namespace: str, span: Span) -> list[Line]:
    return [] if panel["type"] == "row" else lines_of(panel, prometheus, namespace, span)


def _draw(
    figure: Figure, panel: dict[str, Any], lines: list[Line], span: Span, height: int
) -> None:
    """Draw a row's title, or a panel, where it is in Grafana; `height` is the whole page's."""
    place = panel["gridPos"]
    left, width = place["x"] / _COLUMNS, place["w"] / _COLUMNS
    top, tall = 1 - place["y"] / height, place["h"] / height
    if panel["type"] == "row":
        figure.text(0.006, top - tall * 0.75, panel["title"], color=_TEXT, size=15, weight="bold")
        return
    margins = (left + 0.029, top - tall * 0.72, width - 0.037, tall * 0.57)
    _draw_panel(figure.add_axes(margins, facecolor=_PANEL), panel, lines, span)


def _draw_panel(axes: Axes, panel: dict[str, Any], lines: list[Line], span: Span) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom, unit = defaults["custom"], defaults["unit"]
    axes.set_title(panel["title"], color=_TEXT, size=11, loc="left", pad=6)
    lines = sorted(lines, key=_last, reverse=True)
    colours = [_COLOURS[number % len(_COLOURS)] for number in range(len(lines))]
    if "stacking" in custom and lines:
        _stack(axes, lines, colours)
    else:
        for line, colour in zip(lines, colours, strict=True):
            axes.plot(line.times, line.values, color=colour, linewidth=1.3, label=line.name)
            if "scaleDistribution" not in custom:
                axes.fill_between(line.times, line.values, color=colour, alpha=0.08, linewidth=0)
    if "scaleDistribution" in custom and lines:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0, top=None if any(map(any, (line.values for line in lines))) else 1)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit)))
    axes.set_xlim(0, span.end - span.begin)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at // 60:.0f}:{at % 60:02.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 3, 6, 10]))
    axes.tick_params(colors=_FAINT, labelsize=8, length=0)
    axes.grid(color=_GRID, linewidth=0.6)
    for side in axes.spines.values():
        side.set_visible(False)
    _legend(axes)


def _stack(axes: Axes, lines: list[Line], colours: list[str]) -> None:
    """Stack lines, which may begin and end at different times."""
    times = sorted({at for line in lines for at in line.times})
    found = [dict(zip(line.times, line.values, strict=True)) for line in lines]
    values = np.nan_to_num([[one.get(at, 0.0) for at in times] for one in found])
    names = [line.name for line in lines]
    axes.stackplot(times, values, labels=names, colors=colours, alpha=0.55, linewidth=0)


def _legend(axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    if not handles:
        return
    shown_names = [name if len(name) <= 34 else f"{name[:33]}…" for name in names[:_LEGENDS]]
    axes.legend(
        *(handles[:_LEGENDS], shown_names),
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.12),
        ncols=2,
        fontsize=7.5,
        frameon=False,
        labelcolor=_TEXT,
        handlelength=1.2,
        columnspacing=1.0,
        labelspacing=0.25,
    )


def _last(line: Line) -> float:
    """Return the newest value that is one: lines are named in their order at the right edge."""
    return next((value for value in reversed(line.values) if not math.isnan(value)), 0.0)


def shown(value: float, unit: str) -> str:
    """Return a value of an axis in the unit that the panel has in Grafana."""
    if unit == "percentunit":
        return f"{value * 100:g} %"
    if unit == "s":
        return _scaled(value, ((1, "s"), (1e-3, "ms"), (1e-6, "µs")))
    if unit in ("bytes", "binBps"):
        sized = _scaled(value, ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")))
        return sized + ("/s" if unit == "binBps" else "")
    return _scaled(value, ((1e6, "M"), (1e3, "k"), (1, ""))) + ("/s" if unit == "ops" else "")


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    for size, name in units:
        if abs(value) >= size:
            return f"{value / size:.3g} {name}".rstrip()
    return f"{value / units[-1][0]:.2g} {units[-1][1]}".rstrip()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prometheus", default="http://localhost:9090", help="its URL")
    parser.add_argument("--namespace", required=True, help="where the servers are")
    parser.add_argument("--minutes", type=float, default=60, help="so many up to now (default: 60)")
    parser.add_argument("--out", type=Path, default=Path("dashboard.png"))
    given = parser.parse_args()
    now, seconds = time.time(), given.minutes * 60
    span = Span(now - seconds, now, step=max(seconds / 300, 1), window=max(seconds / 60, 60))
    for title in draw(given.prometheus, given.namespace, span, given.out):
        sys.stderr.write(f"nothing to show: {title}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
