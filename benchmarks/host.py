"""What the server's own part can do: gateways drive a network that costs next to nothing.

With the model's cost out of the way, what is left is gRPC, reading and making messages, and the
engine: the most that any device could be given. Beside it stands an echo of the same messages, and
the network that is measured elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import loops, report
from benchmarks.network import HIDDEN, LAYERS, write_model
from benchmarks.ondevice.budget import Budget
from benchmarks.ondevice.service import Load, load
from benchmarks.processes import carousel_server, echo_server

GATEWAYS = (1, 2, 4)
SESSIONS = 2048
#: A network of one unit, and the one that the workloads have.
SHAPES = ((1, 1), (HIDDEN, LAYERS))
_EXAMPLES = """\
examples:
  python -m benchmarks.host
  python -m benchmarks.host --quick --out /tmp/bench
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Steps a second of one network, by the number of gateways."""

    hidden: int
    layers: int
    loads: list[Load]


async def echoed(models: Path, *, seconds: float) -> float:
    """Return the steps a second that an echo gives back of one gateway's messages, one by one."""
    with carousel_server(models) as server, echo_server() as echo:
        async with loops.channel(server.address) as ours, loops.channel(echo.address) as plain:
            (rows,) = await loops.open_rows(ours, [1] * SESSIONS)
            call, number = loops.echo_call(plain), 0
            began = time.perf_counter()
            while time.perf_counter() < began + seconds:
                await call.write(rows.request(number))
                await call.read()
                number += 1
            taken = time.perf_counter() - began
            call.cancel()
            await loops.close_rows(ours, rows)
    return SESSIONS * number / taken


def measure(shape: tuple[int, int], *, seconds: float) -> tuple[Measured, float]:
    """Return what gateways reach with a network, and what the echo gives back beside it."""
    hidden, layers = shape
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        write_model(models, hidden=hidden, layers=layers)
        budget = Budget(60 * seconds)
        loads = load(
            models, "cpu", gateways=GATEWAYS, sessions=SESSIONS, seconds=seconds, budget=budget
        )
        return Measured(hidden, layers, loads), asyncio.run(echoed(models, seconds=seconds))


def print_measured(console: Console, measured: Sequence[Measured], echo: float) -> None:
    """Print a row for each network and number of gateways."""
    table = Table(title=f"{SESSIONS:,} sessions, single steps in columns, each gateway waits")
    for name in ("H", "layers", "gateways", "steps/s", "of one gateway's echo"):
        table.add_column(name, justify="right")
    for network in measured:
        for each in network.loads:
            table.add_row(
                str(network.hidden),
                str(network.layers),
                str(each.gateways),
                f"{each.steps_a_second:,.0f}",
                f"{each.steps_a_second / echo:.2f}",
            )
    console.print(table)
    console.print(f"an echo of one gateway's messages: {echo:,.0f} steps/s")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.host",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="1 s a measurement, instead of 5")
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="default: .bench")
    given = parser.parse_args()
    out, console = report.out_folder(parser, given.out), Console()
    seconds = 1.0 if given.quick else 5.0
    found = [
        measure(shape, seconds=seconds)
        for shape in track(SHAPES, "networks", console=console, transient=True)
    ]
    measured, echoes = [network for network, _ in found], [echo for _, echo in found]
    echo = sum(echoes) / len(echoes)
    print_measured(console, measured, echo)
    written = out / "host.json"
    content = {
        "machine": report.machine(),
        "echo_steps_per_second": echo,
        "networks": [asdict(network) for network in measured],
    }
    written.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"written: {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
