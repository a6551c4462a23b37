"""One task at a time brings a session in."""

from __future__ import annotations

import asyncio

import pytest

from carousel_server.keeping.passage import Passage


async def test_those_with_an_id_in_common_wait_and_others_do_not():
    passage, order = Passage(), []

    async def go(name: str, ids: list[str], wait: asyncio.Event) -> None:
        async with passage.of(ids):
            order.append(name)
            await wait.wait()

    wait = asyncio.Event()
    tasks = [
        asyncio.create_task(go(name, ids, wait))
        for name, ids in (("1", ["a", "b"]), ("2", ["b", "c"]), ("3", ["d"]), ("4", ["c"]))
    ]
    await asyncio.sleep(0.01)
    assert order == ["1", "3", "4"]
    wait.set()
    await asyncio.gather(*tasks)
    assert order == ["1", "3", "4", "2"]


async def test_never_two_at_once():
    passage, inside = Passage(), set()

    async def go(number: int) -> None:
        ids = {f"s{number % 3}", f"s{number % 5}"}
        async with passage.of(ids):
            assert not inside & ids
            inside.update(ids)
            await asyncio.sleep(0)
            inside.difference_update(ids)

    await asyncio.gather(*map(go, range(100)))


async def test_an_error_lets_the_next_one_in():
    passage = Passage()
    with pytest.raises(ValueError, match="x"):
        async with passage.of(["a"]):
            raise ValueError("x")
    async with passage.of(["a"]):
        pass


async def test_who_stops_waiting_leaves_the_way_free():
    passage, wait = Passage(), asyncio.Event()

    async def go() -> None:
        async with passage.of(["a"]):
            await wait.wait()

    first, second = asyncio.create_task(go()), asyncio.create_task(go())
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    wait.set()
    await first
    async with passage.of(["a"]):
        pass
