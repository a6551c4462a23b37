"""The table, the JSON file and the picture of what was measured."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Outcome


def print_table(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print a row a workload."""
    table = Table(title="medians; each run's ceiling was measured beside it")
    for name in ("", "workload", "measured", "ceiling", "ratio", "target", ""):
        table.add_column(name, justify="right" if name in ("measured", "ceiling") else "left")
    for outcome in outcomes:
        workload, ratio = outcome.workload, outcome.ratio
        sign = "<=" if workload.lower_is_better else ">="
        table.add_row(
            workload.name,
            workload.what,
            f"{_number(outcome.ours)} {workload.unit}",
            f"{_number(outcome.ceiling)} {workload.ceiling}",
            f"{ratio:.2f}",
            f"{sign} {workload.target:g}" if workload.target else "-",
            "" if not workload.target else "met" if workload.met(ratio) else "missed",
        )
    console.print(table)
    for outcome in outcomes:
        if outcome.more:
            more = ", ".join(f"{name} {_number(value)}" for name, value in outcome.more.items())
            console.print(f"{outcome.workload.name}: {more}")


def write_json(path: Path, outcomes: Sequence[Outcome], extra: dict[str, Any]) -> None:
    """Write all runs, and what they ran on."""
    content = {
        "machine": machine(),
        "workloads": {
            outcome.workload.name: {
                "what": outcome.workload.what,
                "unit": outcome.workload.unit,
                "ceiling": outcome.workload.ceiling,
                "target": outcome.workload.target,
                "ratio": outcome.ratio,
                "runs": [dataclasses.asdict(run) for run in outcome.runs],
            }
            for outcome in outcomes
        },
        **extra,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def out_folder(parser: argparse.ArgumentParser, path: Path) -> Path:
    """Make the folder for results before anything is measured; refuse what can't be one."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {path}: no folder can be made there: {error.strerror}")
    return path


def machine() -> dict[str, Any]:
    """Return what numbers are worth nothing without: on what, and with what, they came about."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def draw(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Draw the ratios and their targets."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of a backend

    figure, axes = plt.subplots(figsize=(8, 0.5 * len(outcomes) + 1.2), layout="constrained")
    places = np.arange(len(outcomes))[::-1]
    for place, outcome in zip(places, outcomes, strict=True):
        target = outcome.workload.target
        good = outcome.workload.met(outcome.ratio)
        axes.barh(place, outcome.ratio, color="#3b7dd8" if good else "#c98a2b", height=0.6)
        if target:
            axes.plot([target, target], [place - 0.4, place + 0.4], color="black")
        right = max(outcome.ratio, target if abs(target - outcome.ratio) < 0.3 else 0.0)
        axes.text(right + 0.03, place, f"{outcome.ratio:.2f}", va="center")
    axes.set_yticks(places, [f"{o.workload.name}: {o.workload.what}" for o in outcomes])
    axes.set_xlabel("measured over its ceiling (black: target)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
