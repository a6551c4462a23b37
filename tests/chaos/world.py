"""All that a scenario needs: a Redis, a fleet, and a crowd whose answers are checked at the end."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import carousel_client as carousel
from tests.chaos.crowd import MODEL, Crowd, run_crowd
from tests.chaos.fleet import Fleet, Member, free_ports, run_fleet
from tests.chaos.proxy import Cutter, run_cutters
from tests.chaos.record import compare
from tests.support.redis import RunningRedis, run_redis

SERVERS = 3
APPEND_ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")

_LEAST_CUTS = 3

Say = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """How much happens."""

    quick: bool

    @property
    def sessions(self) -> int:
        """How many sessions stream."""
        return 30 if self.quick else 200

    def of(self, full: float, quick: float) -> float:
        """Return the one or the other."""
        return quick if self.quick else full

    def times(self, full: int, quick: int) -> range:
        """Return as many numbers as the one or the other."""
        return range(quick if self.quick else full)


@dataclass
class World:
    """What a scenario can act on."""

    redis: RunningRedis
    fleet: Fleet
    crowd: Crowd
    chance: random.Random
    say: Say
    scale: Scale
    cutters: list[Cutter]

    async def sessions(self) -> list[tuple[Member, list[carousel.SessionInfo]]]:
        """Return what each server that runs has."""
        found = []
        for member in self.fleet.members:
            if member.is_up:
                async with carousel.aio.connect(member.address) as client:
                    found.append((member, await client.sessions(MODEL)))
        return found

    async def victim(self) -> Member:
        """Return a server that has sessions: it is them that a failure is about."""
        return self.chance.choice([member for member, some in await self.sessions() if some])

    @asynccontextmanager
    async def cuts(self) -> AsyncIterator[None]:
        """Let connections be cut, and see to it that some were."""
        for cutter in self.cutters:
            cutter.cutting = True
        yield
        while (count := sum(cutter.cuts for cutter in self.cutters)) < _LEAST_CUTS:
            await self.crowd.sleep(0.1)
        for cutter in self.cutters:
            cutter.cutting = False
        self.say(f"{count} connections were cut")

    async def settle(self) -> None:
        """Let all servers run, and all sessions be answered again."""
        await self.fleet.start()
        seconds = await self.crowd.advance()
        self.say(f"every session was answered again, the last one {seconds:.1f} s later")


@asynccontextmanager
async def run_world(
    model: Path,
    folder: Path,
    chance: random.Random,
    say: Say,
    scale: Scale,
    *,
    flags: tuple[str, ...] = (),
    bytes_a_session: float = 0.0,
    **options: Any,
) -> AsyncIterator[World]:
    """Run everything; at the end all sessions are closed, and every answer is checked.

    With `bytes_a_session` clients reach servers through proxies, which cut each connection after so
    many bytes for each of all sessions, on average. `options` are those of `connect`.
    """
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(run_redis(folder, *APPEND_ALWAYS))
        ports = free_ports(2 * SERVERS, chance)
        own, front = ports[:SERVERS], ports[SERVERS:]
        addresses = [f"127.0.0.1:{port}" for port in (front if bytes_a_session else own)]
        cutters: list[Cutter] = []
        if bytes_a_session:
            mean = bytes_a_session * scale.sessions
            cutting = run_cutters(front, own, chance, mean_bytes=mean)
            cutters = await stack.enter_async_context(cutting)
        fleet = await stack.enter_async_context(
            run_fleet(
                model.parents[2], folder, *flags, store=redis.url, ports=own, advertised=addresses
            )
        )
        running = run_crowd(addresses, scale.sessions, chance, **options)
        crowd = await stack.enter_async_context(running)
        world = World(redis, fleet, crowd, chance, say, scale, cutters)
        say(f"{scale.sessions} sessions stream to {SERVERS} servers")
        yield world
        await world.settle()
        await crowd.finish()
        steps = compare(crowd.tracks, model)
        longest = [track.longest_wait for track in crowd.tracks]
        say(f"{steps:,} answers: each came once, in order, and is right")
        say(f"longest waits: median {np.median(longest):.2f} s, at most {max(longest):.2f} s\n")
        assert _records(redis) == []


def _records(redis: RunningRedis) -> list[bytes]:
    """Return the sessions that the store has: a closed one leaves its token at most."""
    with redis.client() as client:
        keys = client.scan_iter("carousel:session:*")
        return [key for key in keys if client.hexists(key, "token")]
