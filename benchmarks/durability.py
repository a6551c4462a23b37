"""What it costs to keep sessions in Redis, and how fast they come back from there.

Servers with and without a store do the same work in turns; then 100,000 sessions go from a server
that is drained to a fresh one; then one session is forked. Server, client and Redis share this
machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import loops, report
from benchmarks.loops import Rows
from benchmarks.network import STATE_BYTES, write_model
from benchmarks.processes import Running, carousel_server
from benchmarks.restoring import FORKS, measure_coming_back, measure_forks
from benchmarks.stores import RunningStore, redis_server
from carousel import wire
from carousel.v1 import sessions_pb2

GROUP = 1000
MANY = 100_000
EVERY_STEPS, EVERY_SECONDS = 100, 1.0  # the server's defaults

_WINDOW = 3
_EXAMPLES = """\
examples:
  python -m benchmarks.durability
  python -m benchmarks.durability --quick --out /tmp/bench
"""


class Counted(Rows):
    """Rows whose messages say how many answers the client holds, as the SDK's do."""

    def request(self, number: int) -> sessions_pb2.StreamRequest:
        """Return the message of the sessions' next steps."""
        behind = (self.lengths * (_WINDOW - 1)).astype(np.uint64)
        held = np.where(self.at > behind, self.at - behind, np.uint64(0))
        message = super().request(number)
        message.step.delivered = held.astype(wire.STEP_COUNT_DTYPE).tobytes()
        return message

    @classmethod
    def of(cls, rows: Rows) -> Counted:
        """Return the same sessions."""
        return cls(rows.version, rows.server_id, rows.handles, rows.lengths, rows.at.copy(), rows.x)


@dataclass
class Found:
    """Everything that was measured."""

    gateway: dict[str, list[float]] = field(default_factory=dict)  # steps a second, by store
    ratios: dict[str, list[float]] = field(default_factory=dict)  # to the run without beside it
    traffic: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    single_ms: dict[str, list[float]] = field(default_factory=dict)  # p50 of a step, by durability
    coming_back: dict[str, float] = field(default_factory=dict)
    fork_ms: list[float] = field(default_factory=list)


@contextmanager
def _stores() -> Iterator[dict[str, RunningStore | None]]:
    with redis_server() as always, redis_server(fsync="everysec") as everysec:
        yield {
            "none": None,
            "always": always,
            "everysec": everysec,
        }


async def measure_gateway(models: Path, found: Found, *, runs: int, messages: int) -> None:
    """Step 1,000 sessions in columns with each store in turn, so many messages a run."""
    with ExitStack() as stack:
        stores = stack.enter_context(_stores())
        servers = {
            name: stack.enter_context(carousel_server(models, *_flags(store)))
            for name, store in stores.items()
        }
        for _ in range(runs):
            rates = {}
            for name, store in stores.items():
                rates[name], used = await _gateway(servers[name], store, messages)
                if store:
                    found.traffic.setdefault(name, []).append(used)
            for name, rate in rates.items():
                found.gateway.setdefault(name, []).append(rate)
                found.ratios.setdefault(name, []).append(rate / rates["none"])


def predicted(steps_per_second: float) -> float:
    """Return the bytes of states that go to the store each second: rows x state bytes x rate."""
    of_each = steps_per_second / GROUP
    return GROUP * STATE_BYTES * max(of_each / EVERY_STEPS, 1 / EVERY_SECONDS)


async def _gateway(
    server: Running, store: RunningStore | None, messages: int
) -> tuple[float, dict[str, float]]:
    """Return steps a second, and what the store did meanwhile."""
    used: dict[str, float] = {}
    async with loops.channel(server.address) as connected:
        (opened,) = await loops.open_rows(connected, np.ones(GROUP, np.int64))
        rows, call = Counted.of(opened), loops.carousel_call(connected)
        await loops.keep_full(call, rows, 10, _WINDOW)
        before = store.usage() if store else None
        seconds = await loops.keep_full(call, rows, messages, _WINDOW)
        if store and before:
            used = store.usage().since(before)
            used["predicted_bytes_per_second"] = predicted(GROUP * messages / seconds)
        call.cancel()
        await loops.close_rows(connected, rows)
    return GROUP * messages / seconds, used


async def measure_single(models: Path, found: Found, *, runs: int, messages: int) -> None:
    """Step one session: every answer waits for the store where that is asked for."""
    with redis_server() as store, ExitStack() as stack:
        servers = {
            durability: stack.enter_context(
                carousel_server(models, *_flags(store), "--durability", durability)
            )
            for durability in ("relaxed", "strict")
        }
        for _ in range(runs):
            for durability, server in servers.items():
                async with loops.channel(server.address) as connected:
                    (opened,) = await loops.open_rows(connected, [1])
                    rows, call = Counted.of(opened), loops.carousel_call(connected)
                    times = await loops.ping_pong(call, rows, messages)
                    call.cancel()
                    await loops.close_rows(connected, rows)
                p50 = float(np.median(times)) * 1e3
                found.single_ms.setdefault(durability, []).append(p50)


def _flags(store: RunningStore | None) -> list[str]:
    return ["--store", store.url] if store else []


def print_found(console: Console, found: Found) -> None:
    """Print tables of medians."""
    table = Table(
        title=f"{GROUP:,} sessions of one gateway, a step of each in a message, by Redis's "
        "appendfsync: medians"
    )
    for name in ("", "steps/s", "of none", "predicted", "received", "file", "Redis"):
        table.add_column(name, justify="left" if name == "" else "right")
    for store, rates in found.gateway.items():
        used = found.traffic.get(store, [])
        table.add_row(
            store,
            f"{np.median(rates):,.0f}",
            f"{np.median(found.ratios[store]):.2f}",
            *(
                f"{_median(used, name) / 1e6:.2f} MB/s" if used else ""
                for name in (
                    "predicted_bytes_per_second",
                    "received_bytes_per_second",
                    "file_bytes_per_second",
                )
            ),
            f"{_median(used, 'cores'):.2f} cores" if used else "",
        )
    console.print(table)
    for durability, times in found.single_ms.items():
        console.print(f"one session, {durability}: p50 {np.median(times):.2f} ms a step")
    notes = found.coming_back
    if notes:
        console.print(
            f"{notes['sessions']:,.0f} sessions: drained in {notes['drain_seconds']:.1f} s, "
            f"attached to at a fresh server in {notes['attach_seconds']:.1f} s "
            f"({notes['attached_per_second']:,.0f} a second), "
            f"{notes['store_bytes_a_session']:,.0f} bytes of Redis's memory each"
        )
    if found.fork_ms:
        console.print(
            f"one session into {FORKS:,}: median {np.median(found.fork_ms):.1f} ms, "
            f"at most {max(found.fork_ms):.1f} ms of {len(found.fork_ms)} (aim: under 50 ms)"
        )


def _median(used: list[dict[str, float]], name: str) -> float:
    return float(np.median([one[name] for one in used]))


async def run(console: Console, models: Path, *, runs: int, quick: bool) -> Found:
    """Measure everything."""
    found = Found()
    with console.status("gateway"):
        # Many short turns: others on the machine disturb a store and its neighbour alike.
        await measure_gateway(models, found, runs=3 * runs, messages=200 if quick else 700)
    with console.status("single steps"):
        await measure_single(models, found, runs=runs, messages=200 if quick else 1000)
    with console.status("coming back"):
        sessions = 5000 if quick else MANY
        found.coming_back = await measure_coming_back(models, sessions=sessions)
    with console.status("forks"):
        found.fork_ms = await measure_forks(models, runs=3 if quick else 20)
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.durability",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer messages and sessions, one run")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default: 5)")
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="default: .bench")
    given = parser.parse_args()
    out = report.out_folder(parser, given.out)
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        runs = 1 if given.quick else given.runs
        found = asyncio.run(run(console, Path(folder), runs=runs, quick=given.quick))
    print_found(console, found)
    written = out / "durability.json"
    content = {"machine": report.machine(), "state_bytes": STATE_BYTES, **vars(found)}
    written.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"written: {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
