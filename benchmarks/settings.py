"""What ONNX Runtime's own settings do to the runs of a model: where the server's choices come from.

Bare runs without a server, so that nothing else is measured; each figure is relative to the first
line's of the same round, because machines slow down and speed up.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.network import FEATURES, HIDDEN, LAYERS, write_model

_EXAMPLES = """\
examples:
  python -m benchmarks.settings
  python -m benchmarks.settings --rounds 3
"""

#: Rows and steps of the runs: one session, some, a gateway's message, a long chunk.
_SHAPES = ((1, 1), (64, 1), (1000, 1), (1, 100))
#: The least normal float32 is 1.2e-38; below that some processors take a hundred times as long.
_DENORMAL = 1e-39
_SECONDS = 0.2

_Feeds = Mapping[str, NDArray[np.generic]]


def variants() -> dict[str, ort.SessionOptions]:
    """Return what is compared; the first is what the server does with one thread."""
    return {
        "the server's, one thread": _options(),
        "two threads": _options(threads=2),
        "two threads, spinning": _options(threads=2, spinning=True),
        "without arena": _options(arena=False),
        "with memory patterns": _options(patterns=True),
        "denormals as zero": _options(flush=True),
    }


def _options(
    *,
    threads: int = 1,
    spinning: bool = False,
    arena: bool = True,
    patterns: bool = False,
    flush: bool = False,
) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    options.enable_mem_pattern = patterns
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.add_session_config_entry("session.set_denormal_as_zero", str(int(flush)))
    return options


def _feeds(rows: int, steps: int, fill: float | None = None) -> _Feeds:
    """Return inputs and states; all elements `fill`, or ordinary ones."""
    x = np.random.default_rng(0).normal(size=(steps, rows, FEATURES)).astype(np.float32)
    state = np.full((rows, HIDDEN), 0.1 if fill is None else fill, np.float32)
    names = [f"{kind}{layer}" for layer in range(LAYERS) for kind in "hc"]
    return {
        "x": x if fill is None else np.full_like(x, fill),
        "sequence_lens": np.full(rows, steps, np.int32),
        **dict.fromkeys(names, state),
    }


def _seconds(session: ort.InferenceSession, feeds: _Feeds) -> float:
    times: list[float] = []
    until = time.perf_counter() + _SECONDS
    while time.perf_counter() < until or len(times) < 5:
        began = time.perf_counter()
        session.run(["y"], feeds)
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def measure(path: Path, rounds: int) -> dict[str, list[float]]:
    """Return for each variant the median seconds of each run, the one with denormals last."""
    sessions = {
        name: ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for name, options in variants().items()
    }
    runs = [_feeds(*shape) for shape in _SHAPES] + [_feeds(64, 1, _DENORMAL)]
    times: dict[str, list[list[float]]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            times[name].append([_seconds(session, feeds) for feeds in runs])
    return {name: np.median(found, axis=0).tolist() for name, found in times.items()}


def show(console: Console, found: Mapping[str, Sequence[float]]) -> None:
    """Print the table: microseconds, and their ratio to the first line's."""
    table = Table(title="A run under ONNX Runtime's settings, µs (and times the first line's)")
    table.add_column("settings")
    for rows, steps in _SHAPES:
        table.add_column(f"{rows} x {steps}", justify="right")
    table.add_column("64 x 1, denormals", justify="right")
    first = next(iter(found.values()))
    for name, times in found.items():
        cells = (
            f"{own * 1e6:,.0f} ({own / base:.2f})" for own, base in zip(times, first, strict=True)
        )
        table.add_row(name, *cells)
    console.print(table)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.settings",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each, medians (default: 3)")
    rounds = parser.parse_args().rounds
    with TemporaryDirectory() as folder:
        show(Console(), measure(write_model(Path(folder)), rounds))


if __name__ == "__main__":
    main()
