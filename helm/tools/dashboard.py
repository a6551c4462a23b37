"""Make the Grafana dashboard, `files/dashboard.json` of the chart; `--check` says if it is current.

Panels are a table here, since a dashboard's JSON hides what differs between them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parents[1] / "carousel" / "files" / "dashboard.json"
_PODS = 'namespace="$namespace",pod=~"$pod"'
_MODELS = f'{_PODS},model=~"$model"'
_RATE = "$__rate_interval"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT = 24, 8
_MOST = 4  # panels beside each other


@dataclass(frozen=True)
class Panel:
    """A graph: `lines` are (query, legend) pairs; `unit` is Grafana's name of it."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    description: str
    logarithmic: bool = False
    stacked: bool = False


def _rate(metric: str, by: str, *, more: str = "", select: str = _MODELS) -> str:
    labels = f"{more},{select}" if more else select
    return f"sum by ({by}) (rate({metric}{{{labels}}}[{_RATE}]))"


def _quantile(share: float, metric: str, *, by: str = "le", more: str = "") -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', by, more=more)})"


def _quantiles(metric: str, *, more: str = "", name: str = "") -> tuple[tuple[str, str], ...]:
    return tuple(
        (_quantile(share, metric, more=more), f"{name} {share * 100:g} %".strip())
        for share in (0.5, 0.95, 0.99)
    )


def _mean(metric: str) -> str:
    return f"{_rate(f'{metric}_sum', 'model')} / {_rate(f'{metric}_count', 'model')}"


#: Rows that are folded until somebody opens them: not every fleet has what they show.
FOLDED = frozenset({"GPU, of servers that have one"})

ROWS: dict[str, tuple[Panel, ...]] = {
    "Traffic": (
        Panel(
            "Steps",
            "ops",
            ((_rate("carousel_steps_total", "model"), "{{model}}"),),
            "Steps applied, a second.",
        ),
        Panel(
            "Calls",
            "ops",
            ((_rate("carousel_rpcs_total", "method, code", select=_PODS), "{{method}} {{code}}"),),
            "RPCs that ended, a second; a stream is one.",
        ),
        Panel(
            "Rows not answered with OK",
            "ops",
            ((_rate("carousel_rows_rejected_total", "model, reason"), "{{model}} {{reason}}"),),
            "BUSY: overload. NUMERIC_FAULT, MODEL_ERROR: the model. INVALID: clients.",
        ),
        Panel(
            "Rows waiting",
            "short",
            ((f"sum by (pod, model) (carousel_queue_rows{{{_MODELS}}})", "{{pod}} {{model}}"),),
            "Rows taken in and not answered.",
        ),
    ),
    "Sessions and slots": (
        Panel(
            "Open sessions",
            "short",
            ((f"sum by (model, state) (carousel_sessions{{{_MODELS}}})", "{{model}} {{state}}"),),
            "Live ones, and those parked in host memory.",
            stacked=True,
        ),
        Panel(
            "Opened and ended",
            "ops",
            (
                (_rate("carousel_sessions_opened_total", "model"), "{{model}} opened"),
                (_rate("carousel_sessions_ended_total", "model, reason"), "{{model}} {{reason}}"),
            ),
            "Sessions a second.",
        ),
        Panel(
            "Slots in use",
            "percentunit",
            (
                (
                    "max by (pod, model) ("
                    f'carousel_slots{{state="used",{_MODELS}}} / ignoring(state) '
                    f"sum without(state) (carousel_slots{{{_MODELS}}}))",
                    "{{pod}} {{model}}",
                ),
            ),
            "Autoscaling on slots goes by this.",
        ),
        Panel(
            "Parked and brought back",
            "ops",
            (
                (_rate("carousel_parks_total", "model"), "{{model}} parked"),
                (_rate("carousel_restores_total", "model"), "{{model}} brought back"),
            ),
            "States a second. Much of both: too few slots.",
        ),
    ),
    "Latency by phase": (
        Panel(
            "A message, from arrival to answer",
            "s",
            _quantiles("carousel_step_seconds", more='phase="total"'),
            "Over the pods and models that are chosen.",
            logarithmic=True,
        ),
        Panel(
            "Waiting for a tick",
            "s",
            _quantiles("carousel_step_seconds", more='phase="queue"'),
            "Part of the message's time.",
            logarithmic=True,
        ),
        Panel(
            "A tick",
            "s",
            _quantiles("carousel_step_seconds", more='phase="run"'),
            "One run of the model over many sessions' pieces.",
            logarithmic=True,
        ),
        Panel(
            "Calls, 95 %",
            "s",
            (
                (
                    "histogram_quantile(0.95, "
                    + _rate(
                        "carousel_rpc_seconds_bucket",
                        "method, le",
                        more='method!~".*/(Stream|Watch|ServerReflectionInfo)"',
                        select=_PODS,
                    )
                    + ")",
                    "{{method}}",
                ),
            ),
            "Streams left out: they last as long as clients like.",
            logarithmic=True,
        ),
    ),
    "Batch shape and padding": (
        Panel(
            "Pieces a tick",
            "short",
            ((_mean("carousel_tick_rows"), "{{model}} mean"), *_quantiles("carousel_tick_rows")),
            "How many sessions share a run.",
            logarithmic=True,
        ),
        Panel(
            "Steps a tick",
            "short",
            ((_mean("carousel_tick_steps"), "{{model}} mean"), *_quantiles("carousel_tick_steps")),
            "More than pieces where clients send chunks.",
            logarithmic=True,
        ),
        Panel(
            "Padding",
            "percentunit",
            ((_mean("carousel_tick_padding_ratio"), "{{model}}"),),
            "Mean share of the steps run that were padding.",
        ),
        Panel(
            "Ticks",
            "ops",
            ((_rate("carousel_tick_rows_count", "pod, model"), "{{pod}} {{model}}"),),
            "Runs a second.",
        ),
    ),
    "Durability": (
        Panel(
            "Checkpoints",
            "ops",
            ((_rate("carousel_checkpoints_total", "outcome", select=_PODS), "{{outcome}}"),),
            "Refused: another server has the session by now.",
        ),
        Panel(
            "Writing to the store",
            "s",
            tuple(
                (
                    f"histogram_quantile({share}, "
                    + _rate("carousel_checkpoint_seconds_bucket", "le", select=_PODS)
                    + ")",
                    f"{share * 100:g} %",
                )
                for share in (0.5, 0.99)
            ),
            "One write, of many sessions' checkpoints together.",
            logarithmic=True,
        ),
        Panel(
            "Waiting for the store",
            "bytes",
            ((f"sum by (pod) (carousel_store_waiting_bytes{{{_PODS}}})", "{{pod}}"),),
            "Checkpoints not written yet.",
        ),
        Panel(
            "The store answers",
            "short",
            ((f"min by (pod) (carousel_store_up{{{_PODS}}})", "{{pod}}"),),
            "1: yes.",
        ),
    ),
    "Resources": (
        Panel(
            "CPU",
            "short",
            ((_rate("process_cpu_seconds_total", "pod", select=_PODS), "{{pod}}"),),
            "Cores in use.",
        ),
        Panel(
            "Memory",
            "bytes",
            ((f"sum by (pod) (process_resident_memory_bytes{{{_PODS}}})", "{{pod}}"),),
            "Resident, of the server's process.",
        ),
        Panel(
            "States",
            "bytes",
            ((f"sum by (pod, place) (carousel_state_bytes{{{_MODELS}}})", "{{pod}} {{place}}"),),
            "Of open sessions: in the pool, and parked on the host.",
            stacked=True,
        ),
        Panel(
            "Starts",
            "short",
            (
                (
                    f"sum by (pod) (changes(process_start_time_seconds{{{_PODS}}}[{_RATE}]))",
                    "{{pod}} started anew",
                ),
                (
                    "sum by (model) (increase("
                    f"carousel_model_load_failures_total{{{_MODELS}}}[{_RATE}]))",
                    "{{model}} version refused",
                ),
            ),
            "Containers that started anew in their place, and versions that could not be loaded.",
        ),
    ),
    "GPU, of servers that have one": (
        Panel(
            "Memory of the GPU in use",
            "percentunit",
            (
                (
                    "sum by (pod) ("
                    f'carousel_device_memory_bytes{{state="used",{_PODS}}} / ignoring(state) '
                    f"sum without(state) (carousel_device_memory_bytes{{{_PODS}}}))",
                    "{{pod}}",
                ),
            ),
            "Share of all that it has, whoever uses it; the rest is free.",
        ),
        Panel(
            "Pools",
            "bytes",
            ((f"sum by (pod, model) (carousel_pool_bytes{{{_MODELS}}})", "{{pod}} {{model}}"),),
            "Memory taken for sessions' states: all slots, in use or not.",
        ),
        Panel(
            "Replays a tick",
            "short",
            (
                (
                    f"{_rate('carousel_graph_replays_total', 'pod, model')} / "
                    f"{_rate('carousel_tick_rows_count', 'pod, model')}",
                    "{{pod}} {{model}}",
                ),
            ),
            "Runs of captured graphs. 0: ticks run plainly, as whole chunks do. 1: single steps, "
            "as they should. More: chunks as single steps, or rows in several buckets.",
        ),
        Panel(
            "Busy",
            "percentunit",
            (
                (
                    _rate("carousel_device_run_seconds_total", "pod, model"),
                    "{{pod}} {{model}} GPU",
                ),
                (
                    _rate("carousel_step_seconds_sum", "pod, model", more='phase="run"')
                    + f" and on(pod, model) carousel_pool_bytes{{{_MODELS}}}",
                    "{{pod}} {{model}} ticks under way",
                ),
            ),
            "Share of the time in which the GPU was at a model's ticks, by its own clock, and in "
            "which there were any: two at a time are 200 %. Many of these, and a GPU that rests: "
            "the host is what is slow.",
        ),
        Panel(
            "Copies",
            "ops",
            (
                (
                    _rate("carousel_device_copies_total", "pod, direction"),
                    "{{pod}} {{direction}}",
                ),
            ),
            "A second; in: to the GPU. One in and one out for each run; the rest is parking, "
            "saving and bringing back.",
        ),
        Panel(
            "Bytes copied",
            "binBps",
            (
                (
                    _rate("carousel_device_copy_bytes_total", "pod, direction"),
                    "{{pod}} {{direction}}",
                ),
            ),
            "Between host and GPU, a second; in: to the GPU.",
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana has it."""
    panels: list[dict[str, Any]] = []
    top, number = 0, 1
    for title, row in ROWS.items():
        graphs = list(_placed(row, top + 1, number + 1))
        folded = title in FOLDED
        panels.append(
            {"id": number, "type": "row", "title": title, "collapsed": folded}
            | {"panels": graphs if folded else []}
            | {"gridPos": {"h": 1, "w": _WIDTH, "x": 0, "y": top}}
        )
        panels += [] if folded else graphs
        number += 1 + len(row)
        top += 1 if folded else 1 + _lines(row) * _HEIGHT
    return {
        "uid": "carousel",
        "title": "Carousel",
        "tags": ["carousel"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _lines(row: tuple[Panel, ...]) -> int:
    return math.ceil(len(row) / _MOST)


def _placed(row: tuple[Panel, ...], top: int, first: int) -> Iterator[dict[str, Any]]:
    """Yield a row's graphs in lines of the same length, numbered from `first` on."""
    beside = math.ceil(len(row) / _lines(row))
    width = _WIDTH // beside
    for number, panel in enumerate(row):
        line, column = divmod(number, beside)
        place = {"h": _HEIGHT, "w": width, "x": column * width, "y": top + line * _HEIGHT}
        yield {"id": first + number, "gridPos": place, **_graph(panel)}


def _graph(panel: Panel) -> dict[str, Any]:
    custom: dict[str, Any] = {"fillOpacity": 10, "showPoints": "never"}
    if panel.logarithmic:
        custom["scaleDistribution"] = {"type": "log", "log": 10}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": _SOURCE, "expr": query}
            | {"legendFormat": legend}
            for n, (query, legend) in enumerate(panel.lines)
        ],
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "datasource", "label": "Data source", "type": "datasource"}
    return [
        {**source, "query": "prometheus", "hide": 0, "refresh": 1},
        _variable("namespace", "label_values(carousel_build_info, namespace)", several=False),
        _variable("pod", 'label_values(carousel_build_info{namespace="$namespace"}, pod)'),
        _variable("model", f"label_values(carousel_queue_rows{{{_PODS}}}, model)"),
    ]


def _variable(name: str, query: str, *, several: bool = True) -> dict[str, Any]:
    variable = {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": several,
        "includeAll": several,
    }
    return variable | ({"allValue": ".*"} if several else {})


def text() -> str:
    """Return the file's text."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PLACE.write_text(text())
    elif PLACE.read_text() != text():
        sys.exit(f"{PLACE} is not current: run helm/tools/dashboard.py")
