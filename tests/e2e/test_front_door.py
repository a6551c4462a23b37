"""Clients that know one address alone, which leads calls to servers by a hash of a header."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest

import carousel_client as carousel
from tests.support.front_door import front_door
from tests.support.server import RunningServer, run_server

NOWHERE = "127.0.0.1:1"  # what servers say of themselves: nobody outside can reach it
TICK = np.ones(2, np.float32)


@pytest.fixture
def servers(repository, tmp_path):
    with ExitStack() as stack:
        flags = ("--store", f"file:{tmp_path / 'store'}", "--advertise", NOWHERE)
        flags += ("--lease-seconds", "0.5", "--checkpoint-every-steps", "1")
        yield [
            stack.enter_context(run_server(repository, *flags, log=tmp_path / f"log{number}"))
            for number in range(2)
        ]


@pytest.fixture
def door(servers):
    with front_door([server.address for server in servers]) as door:
        yield door


def ids_at(server: RunningServer) -> set[str]:
    with carousel.connect(server.address) as client:
        return {session.id for session in client.sessions("sum")}


def ids_for(door, server: RunningServer, count: int) -> list[str]:
    """Return ids that the door leads to a server."""
    names = (f"session {number} für dich" for number in range(1000))
    ours = (name for name in names if door.at(encoded(name)) == server.address)
    return [next(ours) for _ in range(count)]


def encoded(name: str) -> str:
    """Return an id as the header has it."""
    return name.replace(" ", "%20").replace("ü", "%C3%BC")


def test_sessions_are_found_and_go_on_through_one_address(servers, door):
    left, right = servers
    mine, theirs = ids_for(door, left, 2), ids_for(door, right, 2)
    for name in (*mine, *theirs):
        with carousel.connect(door.address) as client:
            session = client.open("sum", id=name)
            assert session.step(TICK).tolist() == [1, 1]
    assert ids_at(left) == set(mine)
    assert ids_at(right) == set(theirs)

    # Another client, which knows no more than the id.
    with carousel.connect(door.address) as client:
        session = client.attach("sum", mine[0])
        assert session.step(TICK).tolist() == [2, 2]
        # All calls of a client come to one server, or the handles would mean nothing there.
        assert client.open("sum").step(TICK).tolist() == [1, 1]

        # Its server dies: the door leads the same id to the other one, which takes it over.
        left.process.kill()
        door.servers.remove(left.address)
        assert session.step(TICK).tolist() == [3, 3]
        assert session.applied == 3
    assert mine[0] in ids_at(right)
    headers = {header for method, header, _ in door.seen if method in ("Open", "Attach", "Stream")}
    assert headers == {encoded(name) for name in (*mine, *theirs)}


async def test_the_same_for_asyncio(servers, door):
    (name,) = ids_for(door, servers[1], 1)
    async with (
        carousel.aio.connect(door.address) as client,
        client.open("sum", id=name) as session,
    ):
        assert (await session.step(TICK)).tolist() == [1, 1]
        assert ids_at(servers[1]) == {name}
    carried = {method: header for method, header, _ in door.seen}
    assert carried["Stream"] == carried["Open"] == carried["Close"] == encoded(name)
