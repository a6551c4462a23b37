"""A Redis that is restarted, does not answer, or has forgotten everything."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.chaos.world import World

pytestmark = pytest.mark.timeout(600)

_CATCH_UP_SECONDS = 30.0


async def progress(world: World) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many steps of each session were applied, and how many are durable."""
    applied, durable = {}, {}
    for _, sessions in await world.sessions():
        for session in sessions:
            # Where one is listed twice, the one that is further has it.
            if session.applied >= applied.get(session.id, 0):
                applied[session.id] = session.applied
                durable[session.id] = session.durable
    return applied, durable


async def caught_up(world: World, applied: dict[str, int]) -> float:
    """Wait until what was applied then is durable; return the seconds it took."""
    began = time.monotonic()
    while time.monotonic() - began < _CATCH_UP_SECONDS:
        _, durable = await progress(world)
        behind = [name for name, steps in applied.items() if durable.get(name, 0) < steps]
        if not behind:
            return time.monotonic() - began
        await world.crowd.sleep(0.1)
    raise AssertionError(f"not durable after {_CATCH_UP_SECONDS:g} s: {behind[:5]}")


async def test_redis_is_killed_and_started_again(chaos):
    async with chaos() as world:
        for _ in world.scale.times(5, 2):
            world.redis.kill()
            await world.crowd.sleep(world.chance.choice([0, 1, 3]))
            await asyncio.to_thread(world.redis.start)
            applied, _ = await progress(world)
            world.say(f"Redis is back; caught up in {await caught_up(world, applied):.1f} s")


async def test_redis_does_not_answer(chaos):
    """Steps go on, and are answered; nothing becomes durable; then everything does."""
    async with chaos() as world:
        seconds = world.scale.of(20, 4)
        with world.redis.stopped():
            await world.crowd.sleep(0.5)  # what Redis had written already is heard of
            applied, durable = await progress(world)
            await world.crowd.sleep(seconds)
            await world.crowd.advance(5)
            later, still = await progress(world)
            assert still == durable
            assert all(later[name] > steps for name, steps in applied.items())
        steps = sum(later.values()) - sum(applied.values())
        world.say(f"{steps:,} steps in {seconds:g} s, none of them saved")
        world.say(f"caught up in {await caught_up(world, later):.1f} s")


async def test_redis_forgets_everything(chaos):
    """Servers that live write all of it again; later one of them is killed."""
    async with chaos() as world:
        with world.redis.client() as client:
            client.flushall()
            client.script_flush()
        applied, _ = await progress(world)
        world.say(f"all was durable again {await caught_up(world, applied):.1f} s later")
        await (await world.victim()).kill()
        await world.crowd.advance()


async def test_a_server_is_killed_while_redis_does_not_answer(chaos):
    """Nobody can take its sessions over until Redis is back: these wait, and go on then."""
    async with chaos() as world:
        with world.redis.stopped():
            await world.crowd.sleep(world.chance.uniform(0, 2))
            member = await world.victim()
            await member.kill()
            await world.crowd.sleep(world.scale.of(8, 3))
        world.say(f"{member.name} was killed meanwhile; Redis is back")
        await world.crowd.advance()
