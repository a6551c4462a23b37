"""What float16 and int8 save and cost: size, speed and error of four models beside float32.

`carousel-export shrink` measures and proves; this only gives it models, and shows what ONNX
Runtime's own dynamic quantisation does to the rows of a run.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from rich.console import Console

from carousel_exporter.cli import main as export
from carousel_exporter.commands.tables import table
from carousel_exporter.conversion import Labels, convert
from carousel_exporter.errors import ExporterError
from carousel_exporter.manifest import load_model, read_manifest
from carousel_exporter.network import Architecture, RecurrentNetwork
from carousel_exporter.precision import Precision, Request, ShrinkReport, shrink
from carousel_exporter.runner import Runner
from carousel_exporter.source import Source, use_one_thread

_EXAMPLES = """\
examples:
  python -m benchmarks.precision
  python -m benchmarks.precision --models /tmp/models --json figures.json
"""
_DATA: Final = Path("examples/co2/data/co2.csv")
_CO2: Final = "co2"
_FEATURES: Final = 16
_NETWORKS: Final[Mapping[str, Architecture]] = {
    "lstm 2 x 128": Architecture(_FEATURES, 128, 2, 1),
    "lstm 2 x 512": Architecture(_FEATURES, 512, 2, 1),
    "gru 2 x 128": replace(Architecture(_FEATURES, 128, 2, 1), cell="gru"),
}
_REQUESTS: Final = {
    "float16": Request(Precision.FLOAT16),
    "float16, weights alone": Request(Precision.FLOAT16, keep_states=True),
    "int8": Request(Precision.INT8),
}


def make_models(folder: Path) -> dict[str, Path]:
    """Return the models' files, those that are missing made: co2 trained, the others random."""
    paths = {name: folder / f"{name}.onnx" for name in (_CO2, *_NETWORKS)}
    checkpoint = folder / "co2.pt"
    if not paths[_CO2].exists():
        flags = ["--target", "co2", "--unit", "ppm", "--horizon", "4", "--season", "52"]
        if export(["train", "--data", str(_DATA), *flags, "--out", str(checkpoint)]) or export(
            ["convert", str(checkpoint), "--out", str(paths[_CO2])]
        ):
            raise SystemExit(1)
    for name, architecture in _NETWORKS.items():
        if not paths[name].exists():
            torch.manual_seed(0)
            convert(Source(RecurrentNetwork(architecture).eval()), paths[name], Labels(name))
    return paths


def influence(path: Path, folder: Path) -> float:
    """Return how far loud neighbours move a row's answers after ONNX Runtime's quantize_dynamic.

    Relative to the largest answer of the row.
    """
    theirs = folder / "dynamic.onnx"
    logging.disable(logging.WARNING)
    quantize_dynamic(path, theirs, weight_type=QuantType.QInt8)
    logging.disable(logging.NOTSET)
    runner = Runner(theirs, read_manifest(load_model(path), path))
    rng = np.random.default_rng(0)
    rows = [{"x": rng.normal(size=(100, _FEATURES)).astype(np.float32) * s} for s in (1, 10, 10)]
    alone, _ = runner.advance(rows[:1], [runner.new_state()])
    beside, _ = runner.advance(rows, [runner.new_state() for _ in rows])
    off = np.abs(alone[0]["y"] - beside[0]["y"]).max()
    return float(off / np.abs(alone[0]["y"]).max())


def show(console: Console, reports: Mapping[tuple[str, str], ShrinkReport]) -> None:
    """Print a line a model and precision."""
    shapes = [(s.rows, s.steps) for s in next(iter(reports.values())).speeds]
    titles = [f"{rows} x {steps}" for rows, steps in shapes]
    numbers = ("file", "state", *titles, "error")
    result = table("", "model", "kept as", *numbers, numbers=numbers)
    for (model, kept), report in reports.items():
        size = report.file_bytes[1] / report.file_bytes[0]
        state = report.state_bytes[1] / report.state_bytes[0]
        speeds = [f"{s.float32:,.0f} / {s.new:,.0f} = {s.gain:.2f}" for s in report.speeds]
        worst = max(error.worst for error in report.errors)
        result.add_row(model, kept, f"{size:.2f}", f"{state:.2f}", *speeds, f"{worst:.3%}")
    console.print(result)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the models, shrink each in each way, and print what that gives."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", type=Path, help="a folder that keeps the float32 models")
    parser.add_argument("--only-models", action="store_true", help="make them, and measure nothing")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    options = parser.parse_args(arguments)
    console = Console(emoji=False, width=200)
    use_one_thread()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = make_models(options.models or folder)
        if options.only_models:
            return
        reports = {}
        for model, path in paths.items():
            for kept, request in _REQUESTS.items():
                data = _DATA if model == _CO2 else None
                asked = replace(request, data=data)
                try:
                    reports[model, kept] = shrink(path, folder / "small.onnx", asked)
                except ExporterError as error:
                    console.print(f"{model}, {kept}: {error}", soft_wrap=True)
        show(console, reports)
        off = influence(paths["lstm 2 x 128"], folder)
        console.print(
            f"quantize_dynamic: a row beside two that are ten times as loud is off by {off:.1%}"
        )
    if options.json:
        found = [{"model": m, "kept": k, **r.as_json()} for (m, k), r in reports.items()]
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
