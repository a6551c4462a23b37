"""Applications that stream through the SDK, and note what they were answered.

Three kinds: single steps, streams of chunks, and groups in columns. None of them knows that
anything fails: an error that reaches one fails the test.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

import carousel_client as carousel
from tests.chaos.record import Track

MODEL, FEATURES = "lstm", 3

_PATIENT = {"timeout": 90.0, "failover_timeout": 90.0}  # seconds
_CLIENTS = 10  # at least: programs of their own, as far as servers can tell


class Application(ABC):
    """A program with sessions; `pace` is the mean pause between its calls, in seconds."""

    def __init__(self, ids: Sequence[str], chance: random.Random, pace: float) -> None:
        self.tracks = [Track(name) for name in ids]
        self.chance = chance
        self.pace = pace
        self.rng = np.random.default_rng(chance.getrandbits(64))
        self.stopping = False

    @abstractmethod
    async def run(self, client: carousel.aio.Client) -> None:
        """Stream until it is told to stop, then close the sessions."""

    async def pause(self) -> None:
        """Wait as people and sensors do."""
        await asyncio.sleep(self.chance.uniform(0, 2 * self.pace))

    def inputs(self, *shape: int) -> np.ndarray:
        """Return random inputs `[*shape, F]`."""
        return self.rng.normal(size=(*shape, FEATURES)).astype(np.float32)

    def steps(self, most: int) -> int:
        """Return how long a chunk is: mostly short."""
        return self.chance.choice([1, 2, 5, self.chance.randint(1, most)])


class Stepping(Application):
    """One session, a step a call."""

    async def run(self, client: carousel.aio.Client) -> None:
        (track,) = self.tracks
        session = await client.open(MODEL, track.name)
        while not self.stopping:
            x = self.inputs(1)
            track.take(x, (await session.step(x[0]))[np.newaxis])
            await self.pause()
        assert session.applied == track.steps
        await session.close()


class Chunking(Application):
    """One session, a stream of chunks, the next ones on their way before the last is answered."""

    async def run(self, client: carousel.aio.Client) -> None:
        (track,) = self.tracks
        sent: list[np.ndarray] = []

        async def chunks() -> AsyncIterator[np.ndarray]:
            while not self.stopping:
                sent.append(self.inputs(self.steps(40)))
                yield sent[-1]
                await self.pause()

        session = await client.open(MODEL, track.name)
        async for y in session.stream(chunks(), window=6):
            track.take(sent.pop(0), y)
        assert not sent
        assert session.applied == track.steps
        await session.close()


class Grouping(Application):
    """A group in columns: a step each, chunks of one length, or of as many as there are rows."""

    async def run(self, client: carousel.aio.Client) -> None:
        group = await client.open_many(MODEL, [track.name for track in self.tracks])
        rows = len(self.tracks)
        while not self.stopping:
            kind = self.chance.randrange(3)
            X: Any
            if kind == 0:
                X = self.inputs(rows)
                given = list(X[:, np.newaxis])
            elif kind == 1:
                given = list(X := self.inputs(rows, self.steps(10)))
            else:
                X = given = [self.inputs(self.chance.randint(0, 8)) for _ in range(rows)]
            answers = await group.step(X)
            for track, x, y in zip(self.tracks, given, answers, strict=True):
                if len(x):
                    track.take(x, np.reshape(y, (len(x), -1)))
            await self.pause()
        assert group.applied.tolist() == [track.steps for track in self.tracks]
        await group.close()


class Crowd:
    """All applications, while they run."""

    def __init__(self, applications: list[Application], tasks: list[asyncio.Task[None]]) -> None:
        self._applications = applications
        self._tasks = tasks

    @property
    def tracks(self) -> list[Track]:
        """Every session."""
        return [track for application in self._applications for track in application.tracks]

    def check(self) -> None:
        """Raise what reached an application."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def sleep(self, seconds: float) -> None:
        """Let time pass; raise what reaches an application meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            await asyncio.sleep(min(left, 0.1))

    async def advance(self, within: float = 60.0) -> float:
        """Wait until every session was answered again; return the seconds until all were.

        Raises AssertionError with the sessions that were not.
        """
        began = time.monotonic()
        before = {track.name: track.steps for track in self.tracks}
        while True:
            self.check()
            behind = [track.name for track in self.tracks if track.steps == before[track.name]]
            if not behind:
                return time.monotonic() - began
            if time.monotonic() - began > within:
                raise AssertionError(
                    f"{len(behind)} of {len(before)} sessions were not answered for {within:g} s: "
                    f"{behind[:5]}"
                )
            await asyncio.sleep(0.02)

    async def finish(self, within: float = 60.0) -> None:
        """Let all applications come to their ends, which close their sessions."""
        for application in self._applications:
            application.stopping = True
        done, pending = await asyncio.wait(self._tasks, timeout=within)
        for task in done:
            task.result()
        assert not pending, f"{len(pending)} applications did not end within {within:g} s"

    async def abandon(self) -> None:
        """End whatever is still running."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def run_crowd(
    addresses: Sequence[str],
    sessions: int,
    chance: random.Random,
    *,
    pace: float = 0.1,
    prefix: str = "s",
    **options: Any,
) -> AsyncIterator[Crowd]:
    """Run applications with so many sessions together; `options` are those of `connect`.

    Their ids begin with `prefix`: crowds that share a store need one each.
    """
    ids = [f"{prefix}{number}" for number in range(sessions)]
    applications = _applications(ids, chance, pace)
    clients: list[carousel.aio.Client] = []
    crowd = Crowd(applications, [])
    try:
        room = 0
        for application in applications:
            if room <= 0:
                first = len(clients) % len(addresses)  # so that all servers have some
                others = [address for n, address in enumerate(addresses) if n != first]
                order = [addresses[first], *chance.sample(others, len(others))]
                clients.append(await carousel.aio.connect(order, **{**_PATIENT, **options}))
                room = sessions // _CLIENTS
            room -= len(application.tracks)
            crowd._tasks.append(asyncio.create_task(application.run(clients[-1])))
        await crowd.advance()
        yield crowd
    finally:
        await crowd.abandon()
        for client in clients:
            await client.close()


def _applications(ids: Sequence[str], chance: random.Random, pace: float) -> list[Application]:
    """Return applications: 30 % of the sessions step, 30 % stream chunks, 40 % are in groups."""
    each = round(len(ids) * 0.3)

    def alone() -> random.Random:
        return random.Random(chance.getrandbits(64))

    made: list[Application] = []
    made += [Stepping([name], alone(), pace) for name in ids[:each]]
    made += [Chunking([name], alone(), pace) for name in ids[each : 2 * each]]
    grouped = ids[2 * each :]
    size = max(len(grouped) // 4, 1)
    made += [
        Grouping(grouped[begin : begin + size], alone(), pace)
        for begin in range(0, len(grouped), size)
    ]
    chance.shuffle(made)
    return made
