"""What metrics cost: W3 at a server that counts, beside servers that count nothing.

Three servers, one of which counts and is scraped once a second; the two others are alike, and tell
how far apart two servers are of which neither counts. They are driven in turn, in short bursts and
in random order, so that whatever slows the machine down slows all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import loops, report
from benchmarks.loops import Rows
from benchmarks.network import write_model
from benchmarks.processes import Running, metered_server

AIM_PERCENT = 2.0

_METERED, _PLAIN, _ALIKE = "counting", "not counting", "not counting either"
_GROUP, _WINDOW, _MESSAGES = 1000, 3, 30
_SCRAPE_SECONDS = 1.0
_EXAMPLES = """\
examples:
  python -m benchmarks.metrics_cost
  python -m benchmarks.metrics_cost --rounds 10
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """How much longer W3 takes at one server than at another, in percent of the other's time."""

    percent: float  # the median of the rounds
    low: float  # 95 % of resampled medians lie between these
    high: float


def cost_of(seconds: NDArray[np.float64], beside: NDArray[np.float64]) -> Cost:
    """Return what rounds [R] cost beside others [R] of the same rounds."""
    percent = (seconds / beside - 1) * 100
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(percent, (2000, len(percent))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return Cost(float(np.median(percent)), float(low), float(high))


async def measure(models: Path, rounds: int) -> dict[str, NDArray[np.float64]]:
    """Drive the servers; return the seconds [R] of each one's bursts."""
    flags: dict[str, Sequence[str]] = {
        _METERED: (),
        _PLAIN: ("--unmetered",),
        _ALIKE: ("--unmetered",),
    }
    async with AsyncExitStack() as stack:
        calls: dict[str, tuple[Any, Rows]] = {}
        for name, some in flags.items():
            server = stack.enter_context(metered_server(models, *some))
            channel = await stack.enter_async_context(loops.channel(server.address))
            (rows,) = await loops.open_rows(channel, np.ones(_GROUP, np.int64))
            calls[name] = (loops.carousel_call(channel), rows)
            if name == _METERED:
                scraping = asyncio.create_task(_scrape(server))
                stack.callback(scraping.cancel)
        for call, rows in calls.values():
            await loops.keep_full(call, rows, _MESSAGES, _WINDOW)
        rng = np.random.default_rng(0)
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name in rng.permutation(list(calls)).tolist():
                call, rows = calls[name]
                seconds[name].append(await loops.keep_full(call, rows, _MESSAGES, _WINDOW))
        return {name: np.array(times) for name, times in seconds.items()}


async def _scrape(server: Running) -> None:
    def ask() -> None:
        with urllib.request.urlopen(f"http://{server.addresses[1]}/metrics", timeout=10) as page:
            page.read()

    while True:
        await asyncio.to_thread(ask)
        await asyncio.sleep(_SCRAPE_SECONDS)


def print_costs(console: Console, costs: Mapping[str, Cost], rate: float) -> None:
    """Print both costs."""
    table = Table(title=f"W3, {_GROUP:,} sessions in a message; {rate:,.0f} steps/s")
    for name in ("beside a server that counts nothing", "costs", "95 % interval"):
        table.add_column(name)
    for name, cost in costs.items():
        table.add_row(name, f"{cost.percent:+.2f} %", f"{cost.low:+.2f} to {cost.high:+.2f} %")
    console.print(table)
    met = "met" if costs[_METERED].percent < AIM_PERCENT else "missed"
    console.print(f"aim: less than {AIM_PERCENT:g} %: {met}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.metrics_cost",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=100, help="bursts of each (default: 100)")
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="default: .bench")
    given = parser.parse_args()
    out = report.out_folder(parser, given.out)
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        seconds = asyncio.run(measure(Path(folder), given.rounds))
    costs = {name: cost_of(seconds[name], seconds[_PLAIN]) for name in (_METERED, _ALIKE)}
    rate = _GROUP * _MESSAGES / float(np.median(seconds[_METERED]))
    print_costs(Console(), costs, rate)
    content = {
        "machine": report.machine(),
        "seconds": {name: times.tolist() for name, times in seconds.items()},
        "costs": {name: asdict(cost) for name, cost in costs.items()},
    }
    (out / "metrics_cost.json").write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
