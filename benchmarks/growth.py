"""How steps a second and waiting grow with the sessions in a message, and with the chunks' length.

Messages go to a server process through the generated stubs, the bare runs of the same shape beside
them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import matplotlib as mpl
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import loops, report
from benchmarks.network import Bare, write_model
from benchmarks.processes import carousel_server

SESSIONS = (1, 4, 16, 64, 256, 1024, 4096)
CHUNKS = (1, 4, 16, 64, 256)
CHUNK_SESSIONS = 64

_WINDOW = 3
_LEAST_MESSAGES = 20
_EXAMPLES = """\
examples:
  python -m benchmarks.growth
  python -m benchmarks.growth --quick --out /tmp/bench
"""


@dataclass(frozen=True, slots=True)
class Point:
    """One shape of message: steps a second, the bare run's, and how long an answer takes."""

    sessions: int
    steps: int  # of each
    steps_per_second: float  # with three messages unanswered
    bare_steps_per_second: float
    p50_ms: float  # with one
    p99_ms: float
    messages: int  # behind the percentiles


def shapes() -> Iterator[tuple[int, int]]:
    """Yield (sessions, steps) of all points: those of the first panel, then the second's."""
    for sessions in SESSIONS:
        yield sessions, 1
    for steps in CHUNKS:
        yield CHUNK_SESSIONS, steps


async def measure(
    connected: grpc.aio.Channel, model: Path, sessions: int, steps: int, *, seconds: float
) -> Point:
    """Measure one shape, for about so many seconds with one message at a time and with three."""
    (rows,) = await loops.open_rows(connected, np.full(sessions, steps, np.int64))
    bare = Bare(model, rows=sessions, steps=steps)
    before = bare.seconds()
    call = loops.carousel_call(connected)
    warm = await _waits(call, rows, 10)
    messages = max(_LEAST_MESSAGES, int(seconds / float(np.median(warm))))
    times = await _waits(call, rows, messages)
    full = await loops.keep_full(call, rows, messages, _WINDOW)
    beside = float(np.mean([before, bare.seconds()]))
    call.cancel()
    await loops.close_rows(connected, rows)
    p50, p99 = (float(p) * 1e3 for p in np.percentile(times, [50, 99]))
    return Point(
        sessions=sessions,
        steps=steps,
        steps_per_second=rows.steps * messages / full,
        bare_steps_per_second=rows.steps / beside,
        p50_ms=p50,
        p99_ms=p99,
        messages=messages,
    )


async def _waits(call: Any, rows: loops.Rows, messages: int) -> list[float]:
    """Send messages, each when the last one is answered in full; return the seconds of each."""
    times = []
    for number in range(messages):
        began = time.perf_counter()
        await call.write(rows.request(number))
        done = False
        while not done:  # a message that takes several ticks may be answered in parts
            answer = await call.read()
            loops.check(answer, number)
            done = answer.step.done
        times.append(time.perf_counter() - began)
    return times


async def run(console: Console, *, seconds: float) -> list[Point]:
    """Measure all points with one server."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder))
        with carousel_server(Path(folder)) as server:
            async with loops.channel(server.address) as connected:
                return [
                    await measure(connected, model, *shape, seconds=seconds)
                    for shape in track(list(shapes()), "shapes", console=console, transient=True)
                ]


def print_points(console: Console, points: Sequence[Point]) -> None:
    """Print a row a point."""
    table = Table(title="steps a second with three messages unanswered, waiting with one")
    for name in ("sessions", "steps", "steps/s", "bare steps/s", "of bare", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for point in points:
        ours, bare = point.steps_per_second, point.bare_steps_per_second
        table.add_row(
            f"{point.sessions:,}",
            f"{point.steps:,}",
            f"{ours:,.0f}",
            f"{bare:,.0f}",
            f"{ours / bare:.2f}",
            f"{point.p50_ms:.3f}",
            f"{point.p99_ms:.3f}",
        )
    console.print(table)


def draw(path: Path, points: Sequence[Point]) -> None:
    """Draw both panels: steps a second on the left axis of each, p99 on the right one."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of a backend

    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(11, 4.4), layout="constrained")
    by_sessions, by_steps = points[: len(SESSIONS)], points[len(SESSIONS) :]
    left = _panel(panels[0], [p.sessions for p in by_sessions], by_sessions)
    panels[0].set(title="single steps", xlabel="sessions in a message", ylabel="steps a second")
    right = _panel(panels[1], [p.steps for p in by_steps], by_steps)
    panels[1].set(title=f"{CHUNK_SESSIONS} sessions", xlabel="steps of each in a message")
    right.set_ylabel("milliseconds")
    right.sharey(left)
    for axes in (panels[0], left):  # room above for the legends
        axes.set_ylim(top=axes.get_ylim()[1] * 8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axes: Any, sizes: Sequence[int], points: Sequence[Point]) -> Any:
    """Draw one panel, and return the axes of its waits."""
    ours = [point.steps_per_second for point in points]
    bare = [point.bare_steps_per_second for point in points]
    lines = [
        *axes.plot(sizes, bare, "o--", color="#777777", label="bare ONNX Runtime: steps/s"),
        *axes.plot(sizes, ours, "o-", color="#3b7dd8", label="Carousel: steps/s"),
    ]
    waits = axes.twinx()
    p99 = [point.p99_ms for point in points]
    lines += waits.plot(sizes, p99, "s:", color="#c98a2b", label="Carousel: p99 (right axis)")
    waits.set(yscale="log")
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend(handles=lines, loc="upper left", fontsize=8)
    return waits


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="0.3 s a measurement, instead of 3")
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="default: .bench")
    given = parser.parse_args()
    out = report.out_folder(parser, given.out)
    console = Console()
    points = asyncio.run(run(console, seconds=0.3 if given.quick else 3.0))
    print_points(console, points)
    written = out / "growth.json"
    content = {"machine": report.machine(), "points": [asdict(point) for point in points]}
    written.write_text(json.dumps(content, indent=1) + "\n")
    draw(out / "growth.png", points)
    console.print(f"written: {written}, {given.out / 'growth.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
