"""Two servers over a Redis under load of every kind, and a real Prometheus that watches them.

What dashboards and alerts show of a server shows here: steps in groups and in chunks, sessions that
come and go, are parked, brought back and expire, refusals of every sort, and checkpoints.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import carousel_client as carousel
from tests.chaos.fleet import Fleet, free_ports, run_fleet
from tests.chaos.world import APPEND_ALWAYS
from tests.chart.tools import NAMESPACE, RELEASE
from tests.support import models
from tests.support.pki import Authority
from tests.support.prometheus import RunningPrometheus, run_prometheus
from tests.support.redis import RunningRedis, run_redis

#: One model that is well, one whose values overflow, and one whose runs may fail.
GOOD, BAD, FAILING = "keywords", "anomaly", "handwriting"
#: What servers are started as where the second one runs its models as on a GPU.
WITH_A_DEVICE = ("carousel_server", "tests.support.devicehost")
FEATURES = 16
_FLAGS = (
    *("--slots", "512", "--max-sessions", "2000", "--queue-rows", "600"),
    *("--park-after", "1", "--expire-after", "15", "--reload-seconds", "1"),
    *("--checkpoint-every-ms", "250", "--log-format", "json"),
)


@dataclass
class Watched:
    """All that runs."""

    fleet: Fleet
    redis: RunningRedis
    prometheus: RunningPrometheus
    repository: Path
    load: Load


@asynccontextmanager
async def run_watched(
    folder: Path,
    *,
    rules: Sequence[Mapping[str, Any]] = (),
    seconds: float = 1.0,
    modules: Sequence[str] = (),
) -> AsyncIterator[Watched]:
    """Run everything for as long as the context lasts; Prometheus looks every so many seconds.

    `modules` are what the two servers are started as, one each.
    """
    authority = Authority()
    tls = folder / "tls"
    tls.mkdir()
    cert, key = authority.pair().write(tls)
    (tls / "ca.crt").write_bytes(authority.cert)
    repository = folder / "models"
    models.put(repository, models.lstm(features=FEATURES, hidden=64), GOOD)
    models.put(repository, models.exploding(), BAD)
    models.put(repository, models.raises_above(3), FAILING)
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(run_redis(_made(folder / "redis"), *APPEND_ALWAYS))
        ports = free_ports(4, random.Random())
        fleet = await stack.enter_async_context(
            run_fleet(
                *(repository, folder, *_FLAGS, f"--tls-cert={cert}", f"--tls-key={key}"),
                store=redis.url,
                ports=ports[:2],
                metrics_ports=ports[2:],
                modules=modules,
            )
        )
        targets = {
            member.http: {"namespace": NAMESPACE, "pod": f"{RELEASE}-{number}"}
            for number, member in enumerate(fleet.members)
        }
        watching = run_prometheus(
            _made(folder / "prometheus"), targets, rules=rules, seconds=seconds
        )
        prometheus = stack.enter_context(watching)
        load = Load(fleet.addresses, carousel.Tls(ca=tls / "ca.crt"))
        await stack.enter_async_context(load.running())
        yield Watched(fleet, redis, prometheus, repository, load)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


class Load:
    """Clients; `level` is how busy those that step are, 1 as a rule."""

    def __init__(self, addresses: Sequence[str], tls: carousel.Tls) -> None:
        self.level = 1.0
        self._addresses = addresses
        self._tls = tls
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the clients; what ends one of them is raised at the end."""
        habits = (
            *(self._gateway(0), self._gateway(1), self._recordings(), self._visitors()),
            *(self._sleepers(), self._faults(), self._crush(), self._refusals()),
        )
        self._tasks = [asyncio.create_task(habit) for habit in habits]
        try:
            yield
            self.check()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        """Raise what has ended a client."""
        for task in self._tasks:
            if task.done():
                task.result()

    def _connect(self, first: int = 0, *, timeout: float = 20) -> carousel.aio.Client:
        addresses = [*self._addresses[first:], *self._addresses[:first]]
        return carousel.aio.connect(addresses, tls=self._tls, timeout=timeout, failover_timeout=20)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds / max(self.level, 0.05))

    async def _gateway(self, first: int) -> None:
        """Step 200 sessions together, over and over."""
        rng = np.random.default_rng(first)
        async with self._connect(first) as client, client.open_many(GOOD, 200) as group:
            while True:
                await group.step(rng.normal(size=(200, FEATURES)))
                await self._pause(0.05)

    async def _recordings(self) -> None:
        """Stream chunks of many lengths."""
        rng = np.random.default_rng(2)
        async with self._connect(1) as client, client.open_many(GOOD, 12) as group:
            while True:
                chunks = [rng.normal(size=(n, FEATURES)) for n in rng.integers(1, 40, 12)]
                await group.step(chunks)
                await self._pause(0.2)

    async def _visitors(self) -> None:
        """Open, step, close; one in four leaves without closing."""
        x = np.ones(FEATURES)
        async with self._connect() as client:
            number = 0
            while True:
                session = await client.open(GOOD)
                await session.step(x)
                number += 1
                if number % 4:
                    await session.close()
                await self._pause(0.1)

    async def _sleepers(self) -> None:
        """Step, and be still until the state has left the device."""
        async with self._connect(1) as client, client.open_many(GOOD, 150) as group:
            while True:
                await group.step(np.zeros((150, FEATURES)))
                await asyncio.sleep(2.2)

    async def _faults(self) -> None:
        """Send what overflows, what is no number, and what makes a run fail."""
        async with self._connect() as client:
            while True:
                for model, xs in ((BAD, (1.0, 1.0, 1.0, math.nan)), (FAILING, (1.0, 9.0))):
                    session = await client.open(model)
                    for x in xs:
                        with suppress(carousel.StepError, carousel.InvalidInput):
                            await session.step(np.full(2, x, np.float32))
                    await session.close()
                await self._pause(3)

    async def _crush(self) -> None:
        """Send more at once than may wait; the SDK comes again with what was refused."""
        chunk = np.zeros((200, 60, FEATURES), np.float32)
        async with AsyncExitStack() as stack:
            groups = []
            for _ in range(4):  # each in a message of its own
                client = await stack.enter_async_context(self._connect())
                groups.append(await stack.enter_async_context(client.open_many(GOOD, 200)))
            while True:
                await asyncio.gather(*(group.step(chunk) for group in groups))
                await asyncio.sleep(2)

    async def _refusals(self) -> None:
        """Ask for more sessions than there is room for."""
        async with self._connect(1, timeout=1) as client:
            while True:
                with suppress(carousel.ResourceExhausted, carousel.Unavailable):
                    await client.open_many(GOOD, 2001)
                await self._pause(2)
