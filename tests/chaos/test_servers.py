"""Servers that crash, are replaced one after another, or sleep."""

from __future__ import annotations

import asyncio

import pytest

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(("durability", "most"), [("relaxed", 20), ("strict", 8)])
async def test_servers_are_killed_at_random_moments(chaos, durability, most):
    """Now and then two of three at a time, or one that has just come back."""
    async with chaos(flags=("--durability", durability)) as world:
        kills = int(world.scale.of(most, 4))
        killed = 0
        while killed < kills:
            await world.crowd.sleep(world.chance.expovariate(1 / 1.5))
            up = [member for member in world.fleet.members if member.is_up]
            some = world.chance.sample(up, min(world.chance.choice([1, 1, 1, 2]), kills - killed))
            await asyncio.gather(*(member.kill() for member in some))
            killed += len(some)
            world.say(f"killed {' and '.join(m.name for m in some)} ({killed} of {kills})")
            await world.crowd.sleep(world.chance.choice([0, 0.5, 3]))
            await world.fleet.start()


async def test_rolling_upgrades(chaos):
    """Each server in turn is told to go, and comes back; the next one follows at once."""
    async with chaos() as world:
        for number in world.scale.times(4, 1):
            for member in world.fleet.members:
                await world.crowd.sleep(world.chance.uniform(0, 1))
                await member.drain()
                await member.start()
                await world.crowd.advance()
            world.say(f"round {number + 1}: all servers were replaced")


async def test_servers_sleep_and_clients_leave(chaos):
    """Sessions go on elsewhere while their server sleeps; it wakes up and still has them.

    What it writes then must not be what is there when the next one is killed.
    """
    async with chaos(keepalive=1.0, keepalive_timeout=1.0) as world:
        for _ in world.scale.times(4, 1):
            member = await world.victim()
            async with member.paused():
                seconds = await world.crowd.advance()
                world.say(f"{member.name} sleeps; all sessions went on within {seconds:.1f} s")
            await world.crowd.sleep(world.chance.uniform(0, 2))
            member = await world.victim()
            await member.kill()
            world.say(f"killed {member.name}")
            await world.crowd.advance()
            await world.fleet.start()


async def test_servers_sleep_for_longer_than_their_lease_and_clients_wait(chaos):
    """Nobody has taken anything from the sleeper: it goes on with what it has."""
    async with chaos() as world:
        for _ in world.scale.times(3, 1):
            member = await world.victim()
            seconds = world.chance.uniform(3, 5)
            async with member.paused():
                world.say(f"{member.name} sleeps for {seconds:.1f} s")
                await world.crowd.sleep(seconds)
            await world.crowd.advance()
            await world.crowd.sleep(world.chance.uniform(0, 2))
