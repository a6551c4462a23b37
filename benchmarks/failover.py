"""How long applications wait when their server crashes, and when it is drained.

In each round 200 sessions of one client step 50 times a second at a server of their own, which is
then killed, or told to go; another one takes them over from Redis. Measured is, for each session,
the longest that a call took, from the signal on if it was made before. Servers, client and Redis
share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import carousel_client as carousel
from benchmarks import report
from benchmarks.network import FEATURES, NAME, write_model
from benchmarks.processes import Running, carousel_server
from benchmarks.stores import RunningStore, redis_server

SESSIONS = 200
STEPS_A_SECOND = 50
AIMS = {"crash": 3.0, "drain": 0.2}  # seconds, p99

_SIGNALS = {"crash": signal.SIGKILL, "drain": signal.SIGTERM}
_BEFORE, _AFTER = 1.5, 0.5  # seconds of calm
_EXAMPLES = """\
examples:
  python -m benchmarks.failover
  python -m benchmarks.failover --quick --out /tmp/bench
"""


@dataclass
class Found:
    """What one kind of end did, over all rounds."""

    waits: list[float] = field(default_factory=list)  # seconds, a session each
    calm: list[float] = field(default_factory=list)  # the longest call of each session before
    leases: list[float] = field(default_factory=list)  # seconds that were left of one at the signal
    replayed: list[int] = field(default_factory=list)  # steps that were sent again, a round each

    def percentile(self, percent: float) -> float:
        """Return a percentile of the waits."""
        return float(np.percentile(self.waits, percent))


class Waits:
    """The longest call of one session, before the signal and from then on."""

    def __init__(self) -> None:
        self.before = self.after = 0.0
        self.steps = 0

    def take(self, began: float, ended: float, signalled: float | None) -> None:
        """Note a call."""
        if signalled is None or ended < signalled:
            self.before = max(self.before, ended - began)
        else:
            self.after = max(self.after, ended - max(began, signalled))
        self.steps += 1


class Round:
    """Sessions that step until they are told to stop."""

    def __init__(self) -> None:
        self.signalled: float | None = None
        self.stopping = False

    async def stream(self, session: carousel.aio.Session) -> Waits:
        """Step a session as a microphone does."""
        x, waits = np.zeros(FEATURES, np.float32), Waits()
        due = time.perf_counter() + random.random() / STEPS_A_SECOND
        while not self.stopping:
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            began = time.perf_counter()
            await session.step(x)
            ended = time.perf_counter()
            waits.take(began, ended, self.signalled)
            due = max(due + 1 / STEPS_A_SECOND, ended)
        if session.applied != waits.steps:
            raise RuntimeError(f"{session.applied} steps were applied, not {waits.steps}")
        return waits


async def measure(
    kind: str, first: Running, second: Running, store: RunningStore, found: Found
) -> None:
    """Run one round: sessions at the first server end up at the second one."""
    events: list[carousel.FailoverEvent] = []
    async with carousel.aio.connect(
        [first.address, second.address], on_failover=events.append
    ) as client:
        sessions = [await client.open(NAME) for _ in range(SESSIONS)]
        running = Round()
        tasks = [asyncio.create_task(running.stream(session)) for session in sessions]
        await asyncio.sleep(_BEFORE + random.random())
        found.leases.append(_lease_left(store, first.address))
        running.signalled = time.perf_counter()
        first.process.send_signal(_SIGNALS[kind])
        await asyncio.to_thread(first.process.wait)
        while sum(event.sessions for event in events) < SESSIONS:
            _raise_from(tasks)
            await asyncio.sleep(0.05)
        await asyncio.sleep(_AFTER)
        running.stopping = True
        waits = await asyncio.gather(*tasks)
        await asyncio.gather(*(session.close() for session in sessions))
    found.waits += [one.after for one in waits]
    found.calm += [one.before for one in waits]
    found.replayed.append(sum(event.replayed for event in events))


def _lease_left(store: RunningStore, address: str) -> float:
    """Return for how many seconds others still leave a server's sessions alone."""
    for key in store.client.scan_iter("carousel:server:*"):
        if store.client.get(key) == address.encode():
            left = store.client.pttl(key)
            assert isinstance(left, int)
            return left / 1000
    raise RuntimeError(f"no lease of {address}")


def _raise_from(tasks: Sequence[asyncio.Task[Waits]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


async def run(console: Console, models: Path, rounds: int) -> dict[str, Found]:
    """Run all rounds: crashes and drains in turns."""
    all_found = {kind: Found() for kind in _SIGNALS}
    with redis_server() as store:
        flags = ("--store", store.url)
        with carousel_server(models, *flags) as second:
            for _ in track(range(rounds), "rounds", console=console, transient=True):
                for kind, found in all_found.items():
                    with carousel_server(models, *flags) as first:
                        await measure(kind, first, second, store, found)
    return all_found


def print_found(console: Console, all_found: dict[str, Found]) -> None:
    """Print a row for each kind of end."""
    table = Table(title=f"{SESSIONS} sessions a round: the longest wait of each")
    for name in ("", "waits", "p50", "p99", "most", "aim, p99", "lease left", "sent again"):
        table.add_column(name, justify="left" if name == "" else "right")
    for kind, found in all_found.items():
        p99 = found.percentile(99)
        table.add_row(
            kind,
            f"{len(found.waits):,}",
            *(f"{found.percentile(percent):.3f} s" for percent in (50, 99, 100)),
            f"{AIMS[kind]:g} s: {'met' if p99 < AIMS[kind] else 'missed'}",
            f"{np.median(found.leases):.2f} s" if kind == "crash" else "",
            f"{np.median(found.replayed) / SESSIONS:.1f} steps",
        )
    console.print(table)
    calm = [wait for found in all_found.values() for wait in found.calm]
    console.print(f"before: the longest wait of each session, median {np.median(calm):.3f} s")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.failover",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each (default: 15)")
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="default: .bench")
    given = parser.parse_args()
    out = report.out_folder(parser, given.out)
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        rounds = 2 if given.quick else given.rounds
        all_found = asyncio.run(run(console, Path(folder), rounds))
    print_found(console, all_found)
    written = out / "failover.json"
    content = {
        "machine": report.machine(),
        "sessions": SESSIONS,
        "steps_a_second": STEPS_A_SECOND,
        "p50": {kind: found.percentile(50) for kind, found in all_found.items()},
        "p99": {kind: found.percentile(99) for kind, found in all_found.items()},
        **{kind: asdict(found) for kind, found in all_found.items()},
    }
    written.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"written: {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
