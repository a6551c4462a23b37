"""Connections that are cut anywhere: within a message, before an answer, behind a handshake."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(600)


# So that clients are mostly behind the newest checkpoint, and have to be put back to earlier ones.
_SAVES_OFTEN = ("--checkpoint-every-steps", "3", "--checkpoint-every-ms", "30")


@pytest.mark.parametrize("flags", [_SAVES_OFTEN, ()], ids=["saves-often", "saves-seldom"])
@pytest.mark.parametrize("bytes_a_session", [100, 1500], ids=["soon", "late"])
async def test_connections_are_cut(chaos, bytes_a_session, flags):
    async with chaos(bytes_a_session=bytes_a_session, flags=flags) as world, world.cuts():
        await world.crowd.sleep(world.scale.of(30, 6))


async def test_connections_are_cut_while_servers_are_killed(chaos):
    async with chaos(bytes_a_session=300, flags=_SAVES_OFTEN) as world, world.cuts():
        for _ in world.scale.times(4, 1):
            await world.crowd.sleep(world.chance.uniform(1, 3))
            member = await world.victim()
            await member.kill()
            world.say(f"killed {member.name}")
            await member.start()
