"""Which server has my session? The three ways of docs/operations.md, with real servers.

A running sum shows at once whether a step was lost, came twice, or went to another state.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest

import carousel_client as carousel
from tests.chaos.fleet import Fleet, Member, free_ports, run_fleet
from tests.chart import tools
from tests.chart.cluster_ip import ClusterIp
from tests.chart.envoy import files, on_this_machine, run_envoy, server_id
from tests.chart.tools import render, server, shape
from tests.support import models
from tests.support.redis import run_redis

pytestmark = pytest.mark.timeout(300)

SESSIONS, SERVERS = 500, 3
NOWHERE = "127.0.0.1:1"  # what servers say of themselves: nobody but Envoy reaches them
X = np.ones(1, np.float32)
_PAUSE = 1.5  # seconds between two steps of a session, as a rule


@dataclass
class Walker:
    """A program with one session; it counts its answers, each of which must be the next number."""

    name: str
    session: carousel.aio.Session
    steps: int = 0

    async def step(self) -> None:
        """Step once."""
        y = await self.session.step(X)
        self.steps += 1
        assert y.tolist() == [self.steps], f"{self.name} at step {self.steps}"

    async def walk(self) -> None:
        """Step for ever."""
        while True:
            await self.step()
            await asyncio.sleep(random.uniform(0, 2 * _PAUSE))


@dataclass
class Walkers:
    """All programs, and the tasks in which they walk."""

    all: list[Walker]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def set_out(self) -> None:
        """Let all walk from now on."""
        self.tasks = [asyncio.create_task(walker.walk()) for walker in self.all]

    async def advance(self, within: float = 60) -> None:
        """Wait until each has made another step; raise what has ended one."""
        before = {walker.name: walker.steps for walker in self.all}
        async with asyncio.timeout(within):
            while any(walker.steps == before[walker.name] for walker in self.all):
                for task in self.tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Let none walk any more."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def run_servers(folder: Path, *flags: str, advertised: Sequence[str] = ()):
    """Run three servers over a Redis."""
    models.put(folder / "models", models.running_sum(1), "sum")
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(run_redis(folder))
        ports = free_ports(2 * SERVERS, random.Random())
        yield await stack.enter_async_context(
            run_fleet(
                *(folder / "models", folder, "--checkpoint-every-ms", "200", *flags),
                store=redis.url,
                ports=ports[:SERVERS],
                advertised=advertised,
                metrics_ports=ports[SERVERS:],
            )
        )


@asynccontextmanager
async def behind_envoy(folder: Path, fleet: Fleet) -> AsyncIterator[str]:
    """Run the chart's Envoy before the servers; give the one address that clients know."""
    grpc_port, probe_port = free_ports(2, random.Random())
    text = files(shape("envoy"))["envoy.yaml"]
    with run_envoy(on_this_machine(text, fleet.addresses, grpc_port, probe_port), folder):
        door = f"127.0.0.1:{grpc_port}"
        with grpc.insecure_channel(door) as channel:
            async with asyncio.timeout(30):  # until it has found all three in good health
                while len({server_id(channel, f"{n}") for n in range(30)}) < SERVERS:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        probe = f"http://127.0.0.1:{probe_port}/ready"
        assert tools.ask("curl", "--fail", "--silent", probe).returncode == 0
        yield door


async def places(fleet: Fleet) -> dict[str, str]:
    """Return at which server each session is, as the servers that run say it."""
    found = {}
    for member in fleet.members:
        if member.is_up:
            async with carousel.aio.connect(member.address) as client:
                found |= {one.id: member.name for one in await client.sessions("sum")}
    return found


async def open_all(stack: AsyncExitStack, door: str, names: Sequence[str]) -> Walkers:
    """Open sessions, each of a program of its own: a stream has one header."""
    gate = asyncio.Semaphore(25)

    async def begin(name: str) -> Walker:
        async with gate:
            client = await carousel.aio.connect(door, timeout=60, failover_timeout=60)
            stack.push_async_callback(client.close)
            return Walker(name, await client.open("sum", id=name))

    walkers = Walkers(await asyncio.gather(*map(begin, names)))
    stack.push_async_callback(walkers.stop)
    return walkers


async def drain(member: Member) -> None:
    """Ask a server to drain, as the pod's hook does."""
    command = server(render({}))["lifecycle"]["preStop"]["exec"]["command"]
    here = str(Path(sys.executable).parent / command[0])
    hook = await asyncio.create_subprocess_exec(
        *(here, *command[1:], "--metrics-address", member.http), stderr=subprocess.PIPE
    )
    _, said = await hook.communicate()
    assert hook.returncode == 0, said.decode()


def few(before: dict[str, str], after: dict[str, str], names: Sequence[str]) -> bool:
    """Whether nearly all stayed: Maglev's table is no promise. A ring would move a tenth."""
    return sum(after[name] != before[name] for name in names) <= len(names) // 40


async def test_envoy_keeps_sessions_at_their_servers_while_one_drains_and_one_dies(tmp_path, say):
    names = [f"session-{number}" for number in range(SESSIONS)]
    everywhere = [NOWHERE] * SERVERS
    async with (
        run_servers(tmp_path, advertised=everywhere) as fleet,
        behind_envoy(tmp_path, fleet) as door,
        AsyncExitStack() as stack,
    ):
        walkers = await open_all(stack, door, names)
        first = await places(fleet)
        counts = [[*first.values()].count(member.name) for member in fleet.members]
        say(f"{SESSIONS} sessions at {SERVERS} servers: {counts}")
        assert sorted(first) == sorted(names)
        assert min(counts) > SESSIONS // (2 * SERVERS)
        walkers.set_out()
        await walkers.advance()
        assert await places(fleet) == first, "all stay where the hash has led them"

        drained, killed, last = fleet.members
        await drain(drained)
        await drained.drain()  # SIGTERM, behind the hook
        await walkers.advance()
        second = await places(fleet)
        stayed = [name for name in names if first[name] != drained.name]
        assert sorted(second) == sorted(names)
        assert few(first, second, stayed)
        say(f"one was drained: {SESSIONS - len(stayed)} sessions went on elsewhere")

        await killed.kill()
        await walkers.advance()
        third = await places(fleet)
        assert third == dict.fromkeys(names, last.name)
        say(f"one was killed: {len(names)} sessions go on at the last one")
        await walkers.stop()
        say(f"{sum(walker.steps for walker in walkers.all):,} answers, all right\n")


async def test_the_sdk_goes_where_a_session_is(tmp_path):
    """Without a front door: whoever is asked at the wrong place says which one is right."""
    async with run_servers(tmp_path) as fleet, AsyncExitStack() as stack:
        home, *others = fleet.members
        owner = await stack.enter_async_context(carousel.aio.connect(home.address))
        names = [f"session-{number}" for number in range(8)]
        for name in names:
            session = await owner.open("sum", id=name)
            assert (await session.step(X)).tolist() == [1]
        for number, name in enumerate(names):
            wrong = others[number % len(others)]
            async with carousel.aio.connect(wrong.address) as client:
                session = await client.attach("sum", name)
                assert (await session.step(X)).tolist() == [2]
        assert await places(fleet) == dict.fromkeys(names, home.name)


async def test_one_server_a_stream(tmp_path):
    """Connections are spread as a ClusterIP spreads them; what is on one stays at one server."""
    models.put(tmp_path / "models", models.running_sum(1), "sum")
    chance = random.Random(3)
    async with AsyncExitStack() as stack:
        ports = free_ports(SERVERS, chance)
        # No store is shared: a session that came to another server would be lost.
        fleet = await stack.enter_async_context(
            run_fleet(tmp_path / "models", tmp_path, store="memory", ports=ports)
        )
        service = ClusterIp(lambda: fleet.addresses, chance)
        await service.start()
        stack.push_async_callback(service.stop)

        async def visit() -> int:
            async with carousel.aio.connect(service.address) as client:
                for _ in range(3):
                    async with client.open("sum") as session:
                        for step in range(1, 11):
                            assert (await session.step(X)).tolist() == [step]
                return (await client.info()).server_id

        seen = await asyncio.gather(*(visit() for _ in range(20)))
        assert len({*seen}) == SERVERS
