"""Steps as fast as a server answers them, and how long each takes; through the SDK alone."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import typer

import carousel_client as carousel

_WARM_UP = 0.1  # of the time that is measured
_TICK_SECONDS = 0.1
_ROUND_TRIPS = 100
_AT_A_TIME = 32  # sessions being opened or closed: more would only wait, till their time is out

# What is sent is drawn beforehand, so that drawing isn't measured, and sent again from the front.
_MOST_DRAWN, _MOST_BYTES = 64, 64 * 1024 * 1024

#: Where an integer input names no bound: small enough for whatever it is used as.
_FREE_RANGE = 100

Step = Callable[[Any], Awaitable[Any]]
Report = Callable[[float], None]


@dataclass(frozen=True)
class Load:
    """How many sessions, how many steps each sends at a time, and for how many seconds."""

    sessions: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Figures:
    """What came of it; percentiles are of `await step()`, in milliseconds."""

    steps_per_second: float
    calls_per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass
class Tally:
    """The calls of one measurement, in seconds of one clock."""

    times: array[float] = field(default_factory=lambda: array("d"))
    first: float = math.inf
    last: float = -math.inf

    def add(self, began: float, ended: float) -> None:
        """Count a call."""
        self.times.append(ended - began)
        self.first = min(self.first, began)
        self.last = max(self.last, ended)

    def figures(self, steps: int) -> Figures:
        """Return what the calls, each of so many steps, come to."""
        rate = len(self.times) / (self.last - self.first)
        p50, p90, p99 = (float(p) * 1e3 for p in np.percentile(self.times, [50, 90, 99]))
        return Figures(rate * steps, rate, p50, p90, p99)


def draw(
    model: carousel.ModelInfo, lead: tuple[int, ...], rng: np.random.Generator
) -> dict[str, Any]:
    """Return random inputs of a model, each `[*lead, *step]`: what `step` takes.

    Floats are from N(0, 1), integers even between the bounds that the model gives.
    """
    return {spec.name: _draw(spec, (*lead, *spec.shape), rng) for spec in model.inputs}


def _draw(spec: carousel.TensorInfo, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    if spec.dtype.kind == "f":
        return rng.normal(size=shape).astype(spec.dtype)
    if spec.dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(spec.dtype)
    least, most = bounds(spec)
    return rng.integers(least, most, shape, dtype=spec.dtype.type, endpoint=True)


def bounds(spec: carousel.TensorInfo) -> tuple[int, int]:
    """Return the least and the greatest integer to draw: the model's bounds, as far as it has any.

    Without a lower one it is 0, or what lies below the upper one; without an upper one it is
    100 above.
    """
    kind = np.iinfo(spec.dtype.name)
    least, most = spec.minimum, spec.maximum
    if least is None:
        least = 0 if most is None or most >= 0 else max(most - _FREE_RANGE, int(kind.min))
    if most is None:
        most = min(least + _FREE_RANGE, int(kind.max))
    return least, most


async def round_trips(client: carousel.aio.Client) -> list[float]:
    """Return the seconds of calls that do nothing, one after the other."""
    times = []
    for _ in range(_ROUND_TRIPS):
        began = time.perf_counter()
        await client.info()
        times.append(time.perf_counter() - began)
    return times


async def by_sessions(
    client: carousel.aio.Client, model: carousel.ModelInfo, load: Load, report: Report
) -> Figures:
    """Step N sessions at once, each on its own; those that come together share a message."""
    lead = () if load.steps == 1 else (load.steps,)
    chunks = _drawn(model, lead)
    async with _opened(client, model, load.sessions) as sessions:
        tally = await _measured([session.step for session in sessions], chunks, load, report)
    return tally.figures(load.steps)


async def by_group(
    client: carousel.aio.Client, model: carousel.ModelInfo, load: Load, report: Report
) -> Figures:
    """Step N sessions as one group, in columns."""
    lead = (load.sessions,) if load.steps == 1 else (load.sessions, load.steps)
    chunks = _drawn(model, lead)
    async with client.open_many(model.name, load.sessions, version=model.version) as group:
        tally = await _measured([group.step], chunks, load, report)
    return tally.figures(load.sessions * load.steps)


def _drawn(model: carousel.ModelInfo, lead: tuple[int, ...]) -> list[dict[str, Any]]:
    size = model.step_bytes * math.prod(lead)
    count = min(_MOST_DRAWN, max(1, _MOST_BYTES // size))
    rng = np.random.default_rng(0)
    return [draw(model, lead, rng) for _ in range(count)]


@asynccontextmanager
async def _opened(
    client: carousel.aio.Client, model: carousel.ModelInfo, count: int
) -> AsyncIterator[list[carousel.aio.Session]]:
    """Open sessions and close them, also those that were still being opened when it was ended."""
    room, ending = asyncio.Semaphore(_AT_A_TIME), asyncio.Event()

    async def opened() -> carousel.aio.Session | None:
        async with room:
            if ending.is_set():
                return None
            return await client.open(model.name, version=model.version)

    async def closed(session: carousel.aio.Session) -> None:
        async with room:
            await session.close()

    opening = [asyncio.create_task(opened()) for _ in range(count)]
    try:
        # Unlike gather, it leaves them alone when it is cancelled.
        done, _ = await asyncio.wait(opening, return_when=asyncio.FIRST_EXCEPTION)
        yield [session for task in done if (session := task.result())]
    finally:
        ending.set()
        await asyncio.wait(opening)
        there = [task.result() for task in opening if not task.exception()]
        closing = [closed(session) for session in there if session]
        ends = await asyncio.gather(*closing, return_exceptions=True)
        if failures := [end for end in ends if isinstance(end, BaseException)]:
            # Not raised: what ended the measurement, if anything did, is the news.
            left = f"{len(failures):,} of {count:,} sessions may still be open"
            typer.echo(f"carousel: {left}: {failures[0]}", err=True)


async def _measured(
    calls: Sequence[Step], chunks: Sequence[Any], load: Load, report: Report
) -> Tally:
    """Run the calls side by side, a tenth of the time unmeasured at first."""
    watching = asyncio.create_task(_watch(load.seconds * (1 + _WARM_UP), report))
    try:
        await _side_by_side(calls, chunks, load.seconds * _WARM_UP)
        return await _side_by_side(calls, chunks, load.seconds)
    finally:
        watching.cancel()


async def _side_by_side(calls: Sequence[Step], chunks: Sequence[Any], seconds: float) -> Tally:
    tally, until = Tally(), time.perf_counter() + seconds

    async def repeat(call: Step, first: int) -> None:
        for number in itertools.count(first):
            began = time.perf_counter()
            await call(chunks[number % len(chunks)])
            ended = time.perf_counter()
            tally.add(began, ended)
            if ended >= until:
                return

    try:
        async with asyncio.TaskGroup() as tasks:
            for first, call in enumerate(calls):
                tasks.create_task(repeat(call, first))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return tally


async def _watch(seconds: float, report: Report) -> None:
    began = time.perf_counter()
    while True:
        report(min((time.perf_counter() - began) / seconds, 1.0))
        await asyncio.sleep(_TICK_SECONDS)
