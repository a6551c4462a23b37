"""Connections that are cut anywhere: within a message, before an answer, behind a handshake."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("mean_bytes", [3_000, 100_000], ids=["soon", "late"])
async def test_connections_are_cut(chaos, mean_bytes):
    async with chaos(mean_bytes=mean_bytes) as world:
        with world.cuts():
            await world.crowd.sleep(world.scale.of(30, 6))


async def test_connections_are_cut_while_servers_are_killed(chaos):
    async with chaos(mean_bytes=30_000) as world:
        with world.cuts():
            for _ in world.scale.times(4, 1):
                await world.crowd.sleep(world.chance.uniform(1, 3))
                member = await world.victim()
                await member.kill()
                world.say(f"killed {member.name}")
                await member.start()
