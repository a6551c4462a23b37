"""Times of ticks: network by network, the most telling ticks of each first, within a budget."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.ondevice import clock, contestants
from benchmarks.ondevice.budget import Budget, Forecast
from benchmarks.ondevice.cases import Case, Network, Rates, cases
from benchmarks.ondevice.models import Torch, write
from benchmarks.ondevice.tables import Timed
from carousel_server import log
from carousel_server.errors import CarouselError
from carousel_server.runtime.device import Device
from carousel_server.runtime.ondevice.devicemodel import DeviceModel


@dataclass(frozen=True, slots=True)
class Contest:
    """Where ticks are made, in which numbers, and how long each is measured."""

    device: Device
    math: str
    rates: Rates
    each: float  # seconds of one contestant's measurement, or a few runs where they take longer
    small: bool  # a rehearsal


@dataclass(frozen=True, slots=True)
class Times:
    """What was measured, and what was not, for want of time."""

    timed: list[Timed] = field(default_factory=list)
    left_out: list[Case] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Contestants:
    """A network, as each of them has it."""

    torch: Torch
    bare: contestants.Bare
    ours: DeviceModel


def time_ticks(contest: Contest, networks: Sequence[Network], budget: Budget) -> Times:
    """Time the ticks of all networks; each has its part of the time, and what others left of it."""
    times, setting_up = Times(), Forecast()
    for number, network in enumerate(networks):
        chosen = cases(network, small=contest.small)
        if setting_up.seconds((network.weights,)) > budget.left or not budget.left:
            times.left_out.extend(chosen)
            continue
        beginning = budget.spent
        with set_up(contest, network, max(case.rows for case in chosen)) as made:
            setting_up.add((network.weights,), budget.spent - beginning)
            part = budget.one_of(len(networks) - number)
            time_network(contest, made, chosen, part, times)
    return times


def time_network(
    contest: Contest, made: _Contestants, chosen: Sequence[Case], budget: Budget, times: Times
) -> None:
    """Time a network's ticks; those that would take longer than what is left are left out."""
    running = Forecast()  # of one run of each contestant, one after the other
    for case in chosen:
        floor = contest.rates.floor(case, contest.math)
        sizes = (floor, case.rows * case.steps, case.steps)
        if not budget.left or clock.LEAST_CALLS * running.seconds(sizes) > budget.left:
            times.left_out.append(case)
            continue
        timed = Timed(case, floor, _seconds(contest, made, case))
        running.add(sizes, sum(timed.seconds.values()))
        times.timed.append(timed)


@contextmanager
def set_up(contest: Contest, network: Network, largest: int) -> Iterator[_Contestants]:
    """Load a network for all of them, for as long as the context lasts."""
    torch = Torch(network).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = write(torch, Path(folder))
        bare = contestants.Bare(path, contest.device)
        ours = contestants.open_ours(
            path, contest.device, math=contest.math, slots=2 * largest, largest=largest
        )
    try:
        yield _Contestants(torch, bare, ours)
    finally:
        ours.close()


def _seconds(contest: Contest, made: _Contestants, case: Case) -> dict[str, float]:
    """Return the time of a tick, by who made it."""
    ticks = contestants.in_torch(made.torch, str(contest.device), case)
    # Ours comes last: the device's clock is then its own.
    ticks |= {"bare": made.bare.tick(case), "ours": contestants.ours(made.ours, case)}
    seconds = {
        name: time
        for name, tick in ticks.items()
        if (time := _measured(name, case, tick, contest.each)) is not None
    }
    if made.ours.last_seconds > 0:
        seconds["device"] = made.ours.last_seconds
    ahead = contestants.Overlapped(made.ours, case)
    try:
        if (time := _measured("overlapped", case, ahead.tick, contest.each)) is not None:
            seconds["overlapped"] = time
    finally:
        ahead.finish()
    return seconds


def _measured(name: str, case: Case, tick: contestants.Tick, seconds: float) -> float | None:
    """Return a tick's median time; None, and a line, where it can't be made: out of memory, say."""
    try:
        return clock.median_seconds(tick, seconds=seconds)
    except (RuntimeError, CarouselError) as error:
        log.get().warning("a tick failed", by=name, case=str(case), reason=str(error)[:200])
        return None
