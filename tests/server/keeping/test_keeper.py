"""The thread that talks to the store: what comes first, what waits, and what is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from carousel_server.keeping import keeper as keeper_module
from carousel_server.keeping.keeper import Keeper
from carousel_server.keeping.observer import KeepingObserver
from carousel_server.store.interface import StoreUnavailable
from tests.server.store.some import A, at, saves
from tests.support.stores import SharedStore


class Watch(KeepingObserver):
    def __init__(self) -> None:
        self.counts = [0, 0]
        self.up: list[bool] = []

    def saved(self, kept: int, refused: int, seconds: float) -> None:
        assert seconds >= 0
        self.counts = [self.counts[0] + kept, self.counts[1] + refused]

    def store_is(self, *, up: bool) -> None:
        if self.up[-1:] != [up]:
            self.up.append(up)


@pytest.fixture
def store() -> SharedStore:
    return SharedStore()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def keeper(store, watch) -> AsyncIterator[Keeper]:
    made = Keeper(store, A, loop=asyncio.get_running_loop(), max_bytes=1000, observer=watch)
    yield made
    store.away, store.broken = False, None
    store.open.set()
    assert await made.stop(10) == 0


def put(keeper: Keeper, *rows, nbytes: int = 10) -> asyncio.Future[list[bool]]:
    """Have rows saved; return what becomes of them."""
    future = asyncio.get_running_loop().create_future()
    keeper.save(lambda: saves(*rows), rows=len(rows), nbytes=nbytes, done=future.set_result)
    return future


def write(keeper: Keeper, carry_out) -> asyncio.Future[list[bool]]:
    future = asyncio.get_running_loop().create_future()
    keeper.write(carry_out, future.set_result)
    return future


async def until(condition) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came")


async def test_checkpoints_are_written_and_told_of(store, keeper, watch):
    assert await put(keeper, ("x", 1, at(5)), ("y", 1, at(6))) == [True, True]
    assert (store.steps("x"), store.steps("y")) == ([5], [6])
    assert await put(keeper, ("x", 0, at(7)), ("y", 1, at(7))) == [False, True]
    assert watch.counts == [3, 1]
    assert keeper.waiting_bytes == 0


async def test_what_waits_together_is_written_together_and_in_order(store, keeper):
    store.open.clear()
    first = put(keeper, ("x", 1, at(1)))
    await asyncio.sleep(0.05)  # it is under way
    rest = [put(keeper, ("x", 1, at(step), 0), ("y", 1, at(step), 0)) for step in (2, 3, 4)]
    store.open.set()
    assert await first == [True]
    assert await asyncio.gather(*rest) == [[True, True]] * 3
    assert store.calls == [("save", 1), ("save", 6)]
    assert store.steps("x") == [1, 2, 3, 4]


async def test_a_result_comes_back_to_whom_it_belongs(store, keeper):
    store.create([], A)
    store.open.clear()
    put(keeper, ("x", 5, at(1)))
    await asyncio.sleep(0.05)
    mixed = [
        put(keeper, ("x", 5, at(2)), ("x", 4, at(3))),
        put(keeper, ("x", 3, at(2))),
        put(keeper, ("x", 5, at(3)), ("y", 1, at(3)), ("x", 4, at(1))),
    ]
    store.open.set()
    assert await asyncio.gather(*mixed) == [[True, False], [False], [True, True, False]]


@pytest.mark.parametrize(("limit", "value"), [("_ROWS_AT_ONCE", 4), ("_BYTES_AT_ONCE", 45)])
async def test_not_too_much_is_written_at_once(store, keeper, monkeypatch, limit, value):
    monkeypatch.setattr(keeper_module, limit, value)
    store.open.clear()
    put(keeper, ("x", 1, at(1)))
    await asyncio.sleep(0.05)
    some = [put(keeper, ("x", 1, at(2))) for _ in range(10)]
    large = put(keeper, *[("y", 1, at(step), 0) for step in range(9)], nbytes=90)
    store.open.set()
    await asyncio.gather(*some, large)
    assert store.calls == [("save", 1), ("save", 4), ("save", 4), ("save", 2), ("save", 9)]


async def test_other_writes_keep_their_place(store, keeper):
    store.open.clear()
    put(keeper, ("x", 1, at(1)))
    deleted = write(keeper, lambda s: s.delete(["x"], [1]))
    refused = put(keeper, ("x", 1, at(2)))
    store.open.set()
    assert await deleted == [True]
    assert await refused == [False]
    assert store.names() == ["save", "delete", "save"]


async def test_writes_are_tried_again_till_the_store_is_back(store, keeper, watch):
    store.away = True
    waiting = [put(keeper, ("x", 1, at(step), 0)) for step in (1, 2, 3)]
    released = write(keeper, lambda s: s.release(["x"], [1]))
    await until(lambda: keeper.is_away)
    assert watch.up == [False]
    assert keeper.waiting_bytes == 30
    assert keeper.has_room
    store.away = False
    assert await asyncio.gather(*waiting) == [[True]] * 3
    assert await released == [True]
    assert store.steps("x") == [1, 2, 3]
    assert not keeper.is_away
    assert watch.up == [False, True]


async def test_questions_fail_at_once_where_the_store_is_away(store, keeper):
    store.away = True
    waiting = put(keeper, ("x", 1, at(1)))
    with pytest.raises(StoreUnavailable):
        await keeper.ask(lambda s: s.load(["x"]))
    store.away = False
    # A question that is answered ends the pause before the next attempt.
    assert await keeper.ask(lambda s: s.load(["y"])) == [None]
    assert await waiting == [True]


async def test_questions_come_before_what_waits(store, keeper):
    store.open.clear()
    first = put(keeper, ("x", 1, at(1)))
    await asyncio.sleep(0.05)
    behind = put(keeper, ("x", 1, at(2)))
    asked = asyncio.create_task(keeper.ask(lambda s: s.load(["x"])))
    await asyncio.sleep(0.05)
    store.open.set()
    await asyncio.gather(first, behind, asked)
    assert store.names() == ["save", "load", "save"]


async def test_writes_come_through_however_many_questions_there_are(store, keeper):
    store.open.clear()
    first = put(keeper, ("x", 1, at(1)))
    await asyncio.sleep(0.05)
    asked = [asyncio.create_task(keeper.ask(lambda s: s.load(["x"]))) for _ in range(100)]
    behind = put(keeper, ("x", 1, at(2)))
    await asyncio.sleep(0.05)
    store.open.set()
    await asyncio.gather(first, behind, *asked)
    assert store.names().index("save", 1) <= 18


async def test_a_wrong_question_is_raised_where_it_was_asked(keeper):
    with pytest.raises(ZeroDivisionError):
        await keeper.ask(lambda _: 1 / 0)
    assert not keeper.is_away
    assert await keeper.ask(lambda s: s.load(["x"])) == [None]


async def test_the_thread_survives_a_write_that_fails_for_another_reason(store, keeper):
    store.broken = KeyError("a bug")
    waiting = put(keeper, ("x", 1, at(1)))
    assert await waiting == [True]
    assert await keeper.ask(lambda s: s.load(["y"])) == [None]


async def test_has_room_till_so_many_bytes_wait(store, keeper):
    store.away = True
    waiting = []
    while keeper.has_room:
        waiting.append(put(keeper, ("x", 1, at(len(waiting))), nbytes=300))
    assert len(waiting) == 4
    store.away = False
    await asyncio.gather(*waiting)
    assert keeper.has_room


async def test_a_question_whose_asker_has_gone(store, keeper):
    store.open.clear()
    asked = asyncio.create_task(keeper.ask(lambda s: s.load(["x"])))
    await asyncio.sleep(0.05)
    asked.cancel()
    store.open.set()
    assert await keeper.ask(lambda s: s.load(["x"])) == [None]


async def test_the_end_waits_for_what_waits_and_nothing_is_asked_then(store, watch):
    keeper = Keeper(store, A, loop=asyncio.get_running_loop(), max_bytes=1000, observer=watch)
    store.open.clear()
    some = [put(keeper, ("x", 1, at(step), 0)) for step in range(50)]
    stopping = asyncio.create_task(keeper.stop(10))
    await asyncio.sleep(0.05)
    store.open.set()
    assert await stopping == 0
    assert await asyncio.gather(*some) == [[True]] * 50
    with pytest.raises(StoreUnavailable, match="going down"):
        await keeper.ask(lambda s: s.load(["x"]))


async def test_the_end_does_not_wait_for_ever(store, watch):
    keeper = Keeper(store, A, loop=asyncio.get_running_loop(), max_bytes=1000, observer=watch)
    store.away = True
    put(keeper, ("x", 1, at(1)))
    put(keeper, ("x", 1, at(2)))
    assert await keeper.stop(0.2) == 2
    store.away = False
    await until(lambda: store.steps("x") == [2])


async def test_pauses_between_attempts_are_not_cut_short_by_more_writes(store, keeper, monkeypatch):
    monkeypatch.setattr(keeper_module, "_FIRST_PAUSE", 30.0)
    monkeypatch.setattr(keeper_module, "_LONGEST_PAUSE", 30.0)
    attempts = []
    first = write(keeper, lambda s: attempts.append(1) or s.release(["x"], [1]))
    await first
    store.away = True
    waiting = write(keeper, lambda s: attempts.append(1) or s.release(["x"], [1]))
    await until(lambda: keeper.is_away)
    for step in range(20):
        put(keeper, ("x", 1, at(step)))
        await asyncio.sleep(0.002)
    assert len(attempts) == 2
    store.away = False
    await keeper.ask(lambda s: s.load(["x"]))
    await waiting
