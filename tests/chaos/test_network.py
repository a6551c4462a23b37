"""Connections that are cut anywhere: within a message, before an answer, behind a handshake."""

from __future__ import annotations

import pytest

from tests.chaos.world import run_world

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("mean_bytes", [3_000, 100_000], ids=["soon", "late"])
async def test_connections_are_cut(model, tmp_path, chance, scale, say, mean_bytes):
    sessions = scale.sessions
    async with run_world(
        model, tmp_path, chance, say, sessions=sessions, mean_bytes=mean_bytes
    ) as world:
        for cutter in world.cutters:
            cutter.cutting = True
        await world.crowd.sleep(scale.of(30, 6))
        for cutter in world.cutters:
            cutter.cutting = False
        cuts = sum(cutter.cuts for cutter in world.cutters)
        say(f"{cuts} connections were cut")
        assert cuts > 3


async def test_connections_are_cut_while_servers_are_killed(model, tmp_path, chance, scale, say):
    sessions = scale.sessions
    async with run_world(
        model, tmp_path, chance, say, sessions=sessions, mean_bytes=30_000
    ) as world:
        for cutter in world.cutters:
            cutter.cutting = True
        for _ in range(int(scale.of(4, 1))):
            await world.crowd.sleep(chance.uniform(1, 3))
            member = chance.choice(world.fleet.members)
            await member.kill()
            say(f"killed {member.name}")
            await member.start()
        for cutter in world.cutters:
            cutter.cutting = False
        say(f"{sum(cutter.cuts for cutter in world.cutters)} connections were cut")
