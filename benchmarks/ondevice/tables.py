"""The tables, printed when everything is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console
from rich.table import Table

from benchmarks.ondevice.cases import Case, Rates
from benchmarks.ondevice.checks import Check
from benchmarks.ondevice.fit import Fit
from benchmarks.ondevice.service import Load

#: The aims: how far from the floor at 1,024 rows and more, and a small network's tick.
AIM_FLOOR, AIM_FLOOR_ROWS = 2.0, 1024
AIM_SECONDS, AIM_HIDDEN, AIM_ROWS = 60e-6, 128, 256


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one tick, by who made it.

    `overlapped` is ours with the next one begun before one has ended, `device` without the host.
    """

    case: Case
    floor: float
    seconds: dict[str, float]

    @property
    def ours(self) -> float:
        """Carousel's; infinite where it could not be made."""
        return self.seconds.get("ours", float("inf"))


def print_checks(console: Console, checks: Sequence[Check]) -> None:
    """Print a line a check."""
    for check in checks:
        verdict = "passed" if check.passed else "FAILED"
        console.print(
            f"{verdict}: {check.what}: {check.worst:.2g} (at most {check.allowed:g})",
            highlight=False,
        )


def print_ticks(console: Console, rates: Rates, timed: Sequence[Timed]) -> None:
    """Print a row a tick, in microseconds, with the ratio to the floor."""
    table = Table(title="microseconds of a tick, medians; the inputs and answers are on the host")
    peers = ("overlapped", "device", "bare", "torch", "torch_graph")
    for name in ("H", "layers", "rows", "steps", "ours", *peers, "floor", "ours/floor", "steps/s"):
        table.add_column(name, justify="right")
    for row in sorted(timed, key=lambda timed: timed.case):
        network = row.case.network
        table.add_row(
            *map(str, (network.hidden, network.layers)),
            *(f"{count:,}" for count in (row.case.rows, row.case.steps)),
            *(_microseconds(row.seconds.get(name)) for name in ("ours", *peers)),
            _microseconds(row.floor),
            f"{row.ours / row.floor:.1f}",
            f"{row.case.rows * row.case.steps / row.ours:,.0f}",
        )
    console.print(table)
    console.print(
        f"floor: the larger of bytes / {rates.copy / 1e9:,.0f} GB/s and operations / "
        f"{rates.matrix / 1e12:,.1f} T/s, both measured here"
    )


def print_left_out(
    console: Console, timed: Sequence[Timed], cases: Sequence[Case], others: Sequence[str]
) -> None:
    """Print what there was no time for: a line a network, and one for anything else."""
    begun = {each.case.network for each in timed}
    for network, left in groupby(sorted(cases), key=lambda case: case.network):
        ticks = ", ".join(f"{case.rows:,} x {case.steps}" for case in left)
        which = f"rows x steps: {ticks}" if network in begun else "all ticks"
        shape = f"H={network.hidden}, layers {network.layers}"
        console.print(f"left out for time: {shape}, {which}", soft_wrap=True)
    for other in others:
        console.print(f"not measured, for time or as a line above says: {other}", soft_wrap=True)
    if cases or others:
        console.print("--minutes gives more")


def print_spent(console: Console, spent: Mapping[str, float]) -> None:
    """Print where the time went."""
    parts = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in spent.items())
    console.print(f"spent: {parts}", soft_wrap=True)


def print_loads(console: Console, loads: Sequence[Load]) -> None:
    """Print a row for each number of gateways."""
    table = Table(title="the whole server, single steps in columns")
    for name in ("gateways", "sessions", "steps/s", "ticks under way", "device busy"):
        table.add_column(name, justify="right")
    for load in sorted(loads, key=lambda load: load.gateways):
        table.add_row(
            str(load.gateways),
            f"{load.sessions:,}",
            f"{load.steps_a_second:,.0f}",
            f"{load.ticking:.2f}",
            f"{load.on_device:.0%}",
        )
    console.print(table)


def print_fits(console: Console, fits: Sequence[Fit]) -> None:
    """Print a row a network."""
    table = Table(title="sessions that fit into 80 % of what is free")
    for name in ("H", "layers", "state bytes", "slots", "pool, GB"):
        table.add_column(name, justify="right")
    for fit in fits:
        shape = map(str, (fit.network.hidden, fit.network.layers))
        sizes = (f"{count:,}" for count in (fit.state_bytes, fit.slots))
        table.add_row(*shape, *sizes, f"{fit.pool_bytes / 1e9:.1f}")
    console.print(table)


def print_aims(console: Console, timed: Sequence[Timed]) -> None:
    """Print how many ticks reach each of the aims."""
    near = [t.ours / t.floor <= AIM_FLOOR for t in timed if t.case.rows >= AIM_FLOOR_ROWS]
    quick = [t.ours <= AIM_SECONDS for t in timed if _small(t.case)]
    faster = [t.ours < t.seconds["torch_graph"] for t in timed if "torch_graph" in t.seconds]
    for what, reached in (
        (f"within {AIM_FLOOR:g} x of the floor from {AIM_FLOOR_ROWS:,} rows up", near),
        ("faster than PyTorch with CUDA graphs", faster),
        (f"under {AIM_SECONDS * 1e6:.0f} us at H={AIM_HIDDEN} up to {AIM_ROWS} rows", quick),
    ):
        if reached:
            console.print(f"aim: {what}: {sum(reached)} of {len(reached)}", highlight=False)


def _small(case: Case) -> bool:
    return case.network.hidden == AIM_HIDDEN and case.rows <= AIM_ROWS and case.steps == 1


def _microseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:,.1f}"
