"""Sessions that are taken up again: here, from a server that is gone, and not from one that lives.

Every answer is compared with that of a session that nothing happened to.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from carousel.v1 import sessions_pb2, states_pb2
from carousel_server.engine import transfers
from carousel_server.engine.checkpoints import SavePolicy
from carousel_server.engine.status import RowStatus
from carousel_server.errors import (
    InvalidRequest,
    ModelNotFound,
    NoRoom,
    SessionExists,
    SessionNotFound,
    SessionsMoved,
    SnapshotMismatch,
    StoreAway,
    TakeOverWaits,
)
from carousel_server.keeping.leaving import leave_all
from carousel_server.keeping.verifying import verify
from carousel_server.spec import StateSpec
from carousel_server.store.interface import NOT_COUNTED, Checkpoint, Owner, Record, Saves
from tests.support.bench import chunk
from tests.support.members import LEASE, Member, Taken, World
from tests.support.recurrence import RecurrenceRunner, solo

OK, NOT_FOUND, MOVED = RowStatus.OK, RowStatus.NOT_FOUND, RowStatus.MOVED
XS = chunk(60)
YS = solo(XS)


async def walk(taken: Taken, begin: int, end: int, *, row: int = 0, counted: bool = True) -> None:
    """Step one by one, and compare."""
    for step in range(begin, end):
        answer = await taken.step(
            XS[step : step + 1], row=row, first=step, delivered=step if counted else -1
        )
        assert answer.status is OK
        np.testing.assert_array_equal(answer.y, YS[step : step + 1])


async def lost(world: World, member: Member, *ids: str, steps: int = 10) -> None:
    """Open sessions, step them, and let their server crash."""
    taken = await member.open(*ids)
    for row in range(len(ids)):
        await walk(taken, 0, steps, row=row)
    await member.saved()
    world.crash(member)


async def test_a_session_goes_on_where_its_server_left_it(world):
    a, b = await world.pair()
    await lost(world, a, "s")
    taken = await b.attach("s", delivered=[10])
    assert (taken.applied, taken.durable) == ([8], [8])
    await walk(taken, 8, 30)
    await b.saved()
    assert world.store.steps("s")[-1] == 28
    assert b.directory.knows("s")


@pytest.mark.parametrize(
    ("delivered", "applied"), [(60, 8), (8, 8), (7, 4), (4, 4), (3, 0), (0, 0), (None, 8)]
)
async def test_where_a_client_can_go_on_after_a_crash(world, delivered, applied):
    """The client counted none, so every checkpoint was kept."""
    a, b = await world.pair()
    taken = await a.open("s")
    for step in range(10):
        await taken.step(XS[step : step + 1], first=step, delivered=0)
    await a.saved()
    assert world.store.steps("s") == [4, 8]
    world.crash(a)
    again = await b.attach("s", delivered=None if delivered is None else [delivered])
    assert again.applied == again.durable == [applied]
    await walk(again, applied, 20)


@pytest.mark.parametrize(("delivered", "applied"), [(10, 10), (12, 10), (9, 8), (8, 8), (5, 4)])
@pytest.mark.parametrize("shared", [True, False])
async def test_where_a_client_can_go_on_at_a_living_server(world, delivered, applied, shared):
    a = await world.member("a", shared=shared)
    taken = await a.open("s")
    for step in range(10):
        await taken.step(XS[step : step + 1], first=step, delivered=0)
    await a.saved()
    again = await a.attach("s", delivered=[delivered])
    assert (again.applied, again.status) == ([applied], [OK])
    stale = await taken.step(XS[:1])
    assert stale.status is RowStatus.STALE_HANDLE
    await walk(again, applied, 20)


@pytest.mark.parametrize("shared", [True, False])
async def test_a_session_without_a_checkpoint_goes_back_to_its_beginning(world, shared):
    a = await world.member("a", shared=shared)
    taken = await a.open("s")
    await walk(taken, 0, 3)
    again = await a.attach("s", delivered=[2])
    assert (again.applied, again.durable) == ([0], [0])
    await walk(again, 0, 12)


async def test_one_that_began_with_other_states_and_has_no_place_stays_where_it_is(world):
    a = await world.member("a")
    taken = await a.open("s")
    snapshot = await _snapshot(a, await _walked(taken, 5))
    restored = await _restore(a, snapshot, "t")
    assert restored.applied == [5]
    for step in range(5, 30):
        await restored.step(XS[step : step + 1], first=step, delivered=step)
    await a.saved()
    with pytest.raises(SessionNotFound, match="no checkpoint at or before what was delivered: 't'"):
        await a.attach("t", delivered=[4])
    assert (await a.attach("t", delivered=[4], each=True)).status == [NOT_FOUND]
    again = await a.attach("t")
    await walk(again, 30, 32)


async def test_going_back_makes_the_store_forget_before_anybody_goes_on(world):
    a, b = await world.pair()
    taken = await a.open("s")
    for step in range(12):
        await taken.step(XS[step : step + 1], first=step, delivered=0)
    await a.saved()
    again = await a.attach("s", delivered=[5])
    assert again.applied == [4]
    assert world.store.steps("s") == [4]
    other = chunk(3, seed=7)
    await again.step(other, first=4)
    world.crash(a)
    assert (await b.attach("s", delivered=[7])).applied == [4]


@pytest.mark.parametrize("way", ["reset", "rewind", "mark"])
async def test_what_was_taken_back_is_gone_from_the_store(world, way):
    a, b = await world.pair()
    taken = await a.open("s")
    await _walked(taken, 5, counted=False)
    await a.mark(taken, "m")
    for step in range(5, 12):
        await taken.step(XS[step : step + 1], first=step, delivered=0)
    await a.saved()
    if way == "reset":
        await a.service.Reset(_request("Reset", taken), None)
    else:
        await a.rewind(taken, **({"step": 9} if way == "rewind" else {"mark": "m"}))
    stands = {"reset": 0, "rewind": 8, "mark": 5}[way]
    assert max(world.store.steps("s")) == stands
    world.crash(a)
    assert (await b.attach("s")).applied == [stands]


async def test_the_store_is_asked_again_to_forget_before_a_second_try_succeeds(world, monkeypatch):
    monkeypatch.setattr("carousel_server.keeping.keeping._PATIENCE_SECONDS", 0.2)
    a = await world.member("a")
    taken = await a.open("s")
    for step in range(9):
        await taken.step(XS[step : step + 1], first=step, delivered=0)
    await a.saved()
    load = world.store.load

    def then_go_away(ids):
        found = load(ids)
        world.store.away = bool(ids)
        return found

    monkeypatch.setattr(world.store, "load", then_go_away)
    with pytest.raises(StoreAway):
        await a.attach("s", delivered=[5])
    with pytest.raises(StoreAway):
        await a.attach("s", delivered=[5])
    assert world.store.steps("s") == [4, 8]
    monkeypatch.setattr(world.store, "load", load)
    monkeypatch.setattr("carousel_server.keeping.keeping._PATIENCE_SECONDS", 20.0)
    world.store.away = False
    again = await a.attach("s", delivered=[5])
    assert again.applied == [4]
    assert world.store.steps("s") == [4]
    await walk(again, 4, 9)


async def test_a_living_servers_sessions_are_there(world):
    a, b = await world.pair()
    await a.open("s", "t")
    await b.open("u")
    with pytest.raises(SessionsMoved) as caught:
        await b.attach("u", "s", "t")
    assert caught.value.places == [("s", "a:8001"), ("t", "a:8001")]
    taken = await b.attach("nobody", "u", "s", each=True)
    assert taken.status == [NOT_FOUND, OK, MOVED]
    assert taken.moved == {"s": "a:8001"}
    assert taken.handles[1] > 0
    assert taken.handles[0] == taken.handles[2] == 0
    await walk(taken, 0, 2, row=1)


async def test_all_or_none(world):
    a, b = await world.pair()
    await lost(world, a, "s")
    with pytest.raises(SessionNotFound, match="'nobody'"):
        await b.attach("s", "nobody")
    assert (await b.attach("s", delivered=[10])).applied == [8]


async def test_take_over_waits_until_the_store_has_answered_for_a_lease(world):
    a = await world.member("a")
    await a.open("s")
    a.alive = False
    world.clock.now += 10
    b = await world.member("b")
    with pytest.raises(TakeOverWaits):
        await b.attach("s")
    world.let_pass(LEASE / 2)
    with pytest.raises(TakeOverWaits):
        await b.attach("s", each=True)
    world.let_pass(LEASE)
    assert (await b.attach("s")).applied == [0]


async def test_sessions_that_were_given_up_are_taken_at_once(world):
    """A server that has just started can't tell who lives, but it can tell who has left."""
    a = await world.member("a")
    await a.open("kept")
    taken = await a.open("left")
    await walk(taken, 0, 5)
    assert await a.close(taken, keep=True) == []
    b = await world.member("b")
    taken = await b.attach("left", delivered=[5])
    assert taken.applied == [5]
    assert await b.close(taken, keep=True) == []
    found = await b.attach("kept", "left", each=True)
    assert (found.status, found.moved) == ([MOVED, OK], {"kept": "a:8001"})
    with pytest.raises(TakeOverWaits):
        await b.attach("left", "kept")
    world.let_pass(LEASE)
    with pytest.raises(SessionsMoved):
        await b.attach("left", "kept")


async def test_nobody_takes_over_while_the_store_is_away(world):
    a, b = await world.pair()
    await lost(world, a, "s")
    world.store.away = True
    with pytest.raises(StoreAway):
        await b.attach("s")
    b.lease.renew()
    with pytest.raises(TakeOverWaits):
        await b.attach("s")
    world.store.away = False
    b.lease.renew()
    with pytest.raises(TakeOverWaits):
        await b.attach("s")
    world.let_pass(LEASE + 0.5)
    assert (await b.attach("s", delivered=[10])).applied == [8]


async def test_an_owner_goes_on_after_an_outage_and_keeps_its_sessions(world):
    a, b = await world.pair()
    taken = await a.open("s")
    await walk(taken, 0, 5)
    await a.saved()
    world.store.away = True
    world.let_pass(10)
    await walk(taken, 5, 15)
    assert (await taken.step(XS[15:16], first=15, delivered=15)).durable == 4
    world.store.away = False
    world.let_pass(LEASE * 2)
    with pytest.raises(SessionsMoved):
        await b.attach("s")
    await a.saved()
    answer = await taken.step(XS[16:17], first=16, delivered=16)
    assert (answer.status, answer.durable) == (OK, 16)
    assert (await taken.step(XS[17:18], first=17)).applied == 18


@pytest.mark.parametrize("changed", [True, False])
async def test_who_slept_too_long_finds_out_which_sessions_others_have(world, changed):
    a, b = await world.pair()
    taken = await a.open("s", "idle")
    await walk(taken, 0, 8)
    await a.saved()
    world.crash(a)
    over = await b.attach("s", delivered=[8])
    await walk(over, 8, 20)
    a.alive = True
    a.lease.renew()
    if changed:
        assert (await taken.step(XS[8:9], first=8)).status is OK  # it does not know yet
    assert a.keeping.in_doubt
    await verify(a.keeping, [a.served])
    assert not a.keeping.in_doubt
    assert (await taken.step(XS[9:10])).status is MOVED
    await walk(taken, 0, 6, row=1)
    await walk(over, 20, 30)
    world.let_pass(LEASE * 2)
    with pytest.raises(SessionsMoved):
        await a.attach("s")


async def test_nobody_attaches_to_what_a_sleeping_server_believes_to_have(world):
    a, b = await world.pair()
    taken = await a.open("s", "idle")
    await walk(taken, 0, 8)
    await a.saved()
    world.crash(a)
    over = await b.attach("s", delivered=[8])
    await walk(over, 8, 20)
    # It has woken up, and nothing has told it yet.
    with pytest.raises((SessionsMoved, TakeOverWaits)):
        await a.attach("s", delivered=[20])
    assert not a.directory.knows("s")
    assert a.directory.knows("idle")


async def test_a_session_that_others_took_over_and_ended_is_not_there(world):
    a, b = await world.pair()
    await a.open("s")
    world.crash(a)
    await b.close(await b.attach("s"))
    a.alive = True
    world.let_pass(LEASE * 2)
    await verify(a.keeping, [a.served])
    with pytest.raises(SessionNotFound):
        await a.attach("s")


async def test_two_calls_for_the_same_session_at_once(world):
    a, b = await world.pair()
    await lost(world, a, "s", "t")
    calls = [
        b.attach(*ids, delivered=[10] * len(ids), each=each)
        for ids in (["s"], ["s", "t"], ["t"], ["t", "s"])
        for each in (True, False)
    ]
    all_taken = await asyncio.gather(*calls)
    assert all(taken.applied == [8] * len(taken.ids) for taken in all_taken)
    # Whoever came last, which need not be who asked last, has the highest generation.
    having = [taken for taken in all_taken if "t" in taken.ids]
    taken = max(having, key=lambda taken: taken.handles[taken.ids.index("t")])
    await walk(taken, 8, 30, row=taken.ids.index("t"))
    await b.saved()
    assert b.directory.knows("s"), "its writes were not refused"
    assert world.store.steps("t")[-1] == 28


@pytest.mark.parametrize("order", [0, 1])
async def test_opening_an_id_while_another_call_takes_it_over(world, order):
    a, b = await world.pair()
    await lost(world, a, "s")
    calls = [b.attach("s", delivered=[10]), b.open("s")]
    results = await asyncio.gather(*calls[:: 1 - 2 * order], return_exceptions=True)
    taken, opened = results[:: 1 - 2 * order]
    assert isinstance(opened, SessionExists)
    assert taken.applied == [8]
    await walk(taken, 8, 20)


async def test_one_opens_an_id_that_another_server_takes_over(world):
    a, b = await world.pair()
    c = await world.member("c")
    world.let_pass(LEASE)
    await lost(world, a, "s")
    results = await asyncio.gather(
        b.attach("s", delivered=[10]), c.open("s", "fresh"), return_exceptions=True
    )
    assert results[0].applied == [8]
    assert isinstance(results[1], SessionExists)
    assert len(c.directory) == 0
    assert world.store.steps("fresh") is None
    await walk(results[0], 8, 20)


async def test_two_servers_claim_at_once_and_one_gets_it(world):
    a, b = await world.pair()
    c = await world.member("c")
    world.let_pass(LEASE)
    await lost(world, a, "s")
    results = await asyncio.gather(
        b.attach("s", delivered=[10]), c.attach("s", delivered=[10]), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["SessionsMoved", "Taken"]


async def test_a_client_that_goes_away_in_the_middle(world):
    a, b = await world.pair()
    await lost(world, a, "s")
    world.store.open.clear()
    attaching = asyncio.create_task(b.attach("s", delivered=[10]))
    await asyncio.sleep(0.05)
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    world.store.open.set()
    await b.saved()
    async with asyncio.timeout(10):
        while not b.directory.knows("s"):  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.005)
    taken = await b.attach("s", delivered=[10])
    assert taken.applied == [8]
    await walk(taken, 8, 16)
    await b.saved()
    assert world.store.steps("s")[-1] == 16


async def test_a_client_that_goes_away_while_it_opens(world):
    a, b = await world.pair()
    world.store.open.clear()
    opening = asyncio.create_task(a.open("s"))
    await asyncio.sleep(0.05)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    world.store.open.set()
    taken = await a.attach("s")
    await walk(taken, 0, 8)
    await a.saved()
    world.crash(a)
    assert (await b.attach("s")).applied == [8]


async def test_a_client_that_goes_away_before_it_is_refused(world):
    """What it is not told goes to the log, and asyncio has nothing to complain of."""
    a, b = await world.pair()
    await lost(world, a, "s")
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    world.store.open.clear()
    attaching = asyncio.create_task(b.attach("s", delivered=[10]))
    await asyncio.sleep(0.05)
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    world.store.away = True
    with capture_logs() as log:
        world.store.open.set()
        async with asyncio.timeout(10):
            while not any("client went" in line["event"] for line in log):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    gc.collect()
    assert complaints == []
    world.store.away = False
    world.let_pass(LEASE)
    assert (await b.attach("s", delivered=[10])).applied == [8]


async def test_what_cant_go_on_here_can_go_on_elsewhere(world):
    """A full server, one without the model, one with other states: none keeps what it claimed."""
    a, b = await world.pair()
    full = await world.member("full", sessions=1)
    await full.open("own")
    world.let_pass(LEASE)
    await lost(world, a, "s", "t")
    with pytest.raises(NoRoom):
        await full.attach("s", "t", delivered=[10, 10])
    with pytest.raises(ModelNotFound):
        await full.attach("s", model="other")
    assert (await b.attach("s", "t", delivered=[10, 10])).applied == [8, 8]


async def test_a_count_below_every_checkpoint_takes_nothing_away(world):
    """Of a session that did not begin as its model does."""
    a, b = await world.pair()
    snapshot = await _snapshot(a, await _walked(await a.open("s"), 5))
    restored = await _restore(a, snapshot, "t")
    for step in range(5, 30):
        await restored.step(XS[step : step + 1], first=step, delivered=step)
    await a.saved()
    world.crash(a)
    with pytest.raises(SessionNotFound, match="no checkpoint at or before"):
        await b.attach("t", delivered=[3])
    assert (await b.attach("t", delivered=[3], each=True)).status == [NOT_FOUND]
    again = await b.attach("t", delivered=[30])
    assert again.applied == [29]
    await walk(again, 29, 40)


async def test_a_session_of_another_model_is_not_there(world):
    a, b = await world.pair()
    taken = await a.open("s")
    await walk(taken, 0, 5)
    await a.saved()
    world.crash(a)
    record = world.store.load(["s"])[0]
    other = replace(record.header, model="other")
    world.store.delete(["s"], [record.token])
    _put(world, "s", other, record.checkpoints[-1])
    assert (await b.attach("s", each=True)).status == [NOT_FOUND]
    with pytest.raises(SessionNotFound):
        await b.attach("s")
    found = world.store.claim(["s"], Owner("c", ""))[0]
    assert isinstance(found, Record), "it was given up again"


async def test_sessions_go_on_with_another_version_of_the_same_states(world):
    a = await world.member("a", version="1")
    b = await world.member("b", version="2")
    world.let_pass(LEASE * 2)
    taken = await a.open("s")
    await _walked(taken, 3, counted=False)
    await a.mark(taken, "m")
    for step in range(3, 10):
        await taken.step(XS[step : step + 1], first=step, delivered=step)
    await a.saved()
    world.crash(a)
    over = await b.attach("s", delivered=[10])
    assert (over.version, over.applied) == ("2", [8])
    await walk(over, 8, 20)
    assert await b.rewind(over, mark="m") == ([0], [3])
    await walk(over, 3, 9)
    await b.saved()
    assert world.store.load(["s"])[0].header.version == "1"  # it does not change in its life


class Narrow(RecurrenceRunner):
    """The same network, but its state is float32: exact here, for small numbers."""

    def __init__(self, dtype="<f4", shape=(), name="s") -> None:
        super().__init__()
        initial = np.zeros(shape, np.dtype(dtype))
        changed = StateSpec(name, "s_out", np.dtype(dtype), shape, initial)
        self.spec = replace(self.spec, states=(changed,))

    def read(self, slots):
        return {"s": self.states[slots].astype("<f4")}


@pytest.mark.parametrize("narrow_first", [True, False])
async def test_states_of_another_width_are_cast(world, narrow_first):
    runners = [Narrow("<f4"), RecurrenceRunner()][:: 1 if narrow_first else -1]
    a = await world.member("a", runner=runners[0])
    b = await world.member("b", runner=runners[1])
    world.let_pass(LEASE * 2)
    await lost(world, a, "s")
    taken = await b.attach("s", delivered=[10])
    await walk(taken, 8, 20)


@pytest.mark.parametrize(
    ("runner", "why"),
    [
        (Narrow("<i8"), r"state 's': float64 was saved, int64 is the model's"),
        (Narrow("<f8", (2,)), r"state 's': shape \[\] was saved, shape \[2\] is the model's"),
        (Narrow("<f8", (), "h"), r"states: \['s'\] were saved, \['h'\] are the model's"),
    ],
)
async def test_other_states_are_refused_in_words_and_the_session_stays_free(world, runner, why):
    a, b = await world.pair()
    c = await world.member("c", version="9", runner=runner)
    world.let_pass(LEASE)
    await lost(world, a, "s")
    for each in (True, False):
        with pytest.raises(
            SnapshotMismatch, match=f"session 's' of m/1 can't go on with m/9: {why}"
        ):
            await c.attach("s", delivered=[10], each=each)
    assert (await b.attach("s", delivered=[10])).applied == [8]


async def test_marks_survive_a_take_over(world):
    a, b = await world.pair()
    taken = await a.open("s")
    await walk(taken, 0, 3)
    assert await a.mark(taken, "m") == [3]
    await walk(taken, 3, 10)
    await a.saved()
    world.crash(a)
    over = await b.attach("s", delivered=[10])
    assert await b.rewind(over, mark="nope") == ([NOT_FOUND], [0])
    assert await b.rewind(over, mark="m") == ([0], [3])
    await walk(over, 3, 12)


async def test_close_and_keep(world):
    a, b = await world.pair()
    taken = await a.open("s", "t")
    await walk(taken, 0, 3)
    assert await a.close(taken, keep=True) == []
    assert not a.directory.knows("s")
    assert (await taken.step(XS[:1])).status in (MOVED, RowStatus.STALE_HANDLE)
    over = await b.attach("s", "t", delivered=[3, 0])
    assert over.applied == [3, 0]
    await walk(over, 3, 9)
    # And back, to the one that had them before.
    await b.close(over, keep=True)
    again = await a.attach("s", "t")
    assert again.applied == [9, 0]
    await walk(again, 9, 20)


async def test_close_and_keep_where_the_store_is_the_servers_own(world):
    a = await world.member("a", shared=False)
    taken = await a.open("s")
    await walk(taken, 0, 3)
    assert await a.close(taken, keep=True) == []
    assert (await taken.step(XS[:1])).status is MOVED
    await walk(await a.attach("s"), 3, 9)


async def test_close_and_keep_while_the_store_is_away(world, monkeypatch):
    monkeypatch.setattr("carousel_server.keeping.keeping._PATIENCE_SECONDS", 0.2)
    a, b = await world.pair()
    taken = await a.open("s")
    await walk(taken, 0, 3)
    world.store.away = True
    with pytest.raises(StoreAway):
        await a.close(taken, keep=True)
    again = await a.attach("s")
    await walk(again, 3, 5)
    world.store.away = False
    await a.saved()
    await a.close(again, keep=True)
    assert (await b.attach("s")).applied == [5]


async def test_a_store_that_is_known_to_be_away_is_not_waited_for(world, monkeypatch):
    monkeypatch.setattr("carousel_server.keeping.keeping._PATIENCE_SECONDS", 3600.0)
    a = await world.member("a")
    taken = await a.open("s")
    await walk(taken, 0, 3)
    world.store.away = True
    async with asyncio.timeout(60):
        with pytest.raises(StoreAway, match="the store of sessions, shared, does not answer"):
            await a.rewind(taken, step=0)
    world.store.away = False
    await a.saved()
    assert max(world.store.steps("s"), default=0) == 0


async def test_a_server_leaves_all_of_its_sessions(world):
    a, b = await world.pair()
    ids = [f"s{number}" for number in range(40)]
    taken = await a.open(*ids)
    for row in range(0, 40, 3):
        await walk(taken, 0, 3, row=row)
    assert await leave_all(a.keeping, a.served) == 0
    assert len(a.directory) == 0
    over = await b.attach(*ids)
    assert over.applied == [3 if row % 3 == 0 else 0 for row in range(40)]
    await walk(over, 3, 6, row=3)
    assert await leave_all(a.keeping, a.served) == 0


async def test_a_server_that_can_leave_nobody_says_how_many(world, monkeypatch):
    monkeypatch.setattr("carousel_server.keeping.keeping._PATIENCE_SECONDS", 0.1)
    a, _ = await world.pair()
    await a.open("s", "t")
    world.store.away = True
    assert await leave_all(a.keeping, a.served) == 2


async def test_ids_that_cant_be(world):
    a = await world.member("a")
    for ids in ([], [""], ["s", "s"]):
        with pytest.raises(InvalidRequest):
            await a.attach(*ids)
    with pytest.raises(InvalidRequest, match="delivered has 8 bytes"):
        await a.attach("s", "t", delivered=[1])


async def test_strict_durability(world):
    strict = SavePolicy(strict=True, counted_only=False)
    a = await world.member("a", saves=strict)
    b = await world.member("b", saves=strict)
    world.let_pass(LEASE * 2)
    taken = await a.open("s")
    for step in range(6):
        answer = await taken.step(XS[step : step + 1], first=step, delivered=step)
        assert answer.durable == answer.applied == step + 1
        assert world.store.steps("s")[-1] == step + 1
    world.crash(a)
    over = await b.attach("s", delivered=[6])
    assert over.applied == [6]
    # The one that slept answers nothing of what it still does.
    assert (await taken.step(XS[6:7], first=6)).status is MOVED
    answer = await over.step(XS[6:9], first=6)
    np.testing.assert_array_equal(answer.y, YS[6:9])


async def test_copies_that_are_saved_count_nowhere(world):
    a = await world.member("a")
    taken = await a.open("s")
    await walk(taken, 0, 3)
    await a.served.driver.control(transfers.copy_out(np.array(taken.handles, np.uint64)))
    await a.saved()
    assert world.store.steps("s") == []


async def _walked(taken: Taken, steps: int, *, counted: bool = True) -> Taken:
    await walk(taken, 0, steps, counted=counted)
    return taken


async def _snapshot(member: Member, taken: Taken) -> bytes:
    response = await member.service.Snapshot(_request("Snapshot", taken), None)
    return response.snapshots[0]


async def _restore(member: Member, snapshot: bytes, name: str) -> Taken:
    request = states_pb2.RestoreRequest(model="m", snapshots=[snapshot], ids=[name])
    response = await member.service.Restore(request, None)
    handles = np.frombuffer(response.handles, "<u8").tolist()
    applied = np.frombuffer(response.applied, "<u8").tolist()
    return Taken(member, response.version, [name], handles, applied, [0], [OK])


def _request(kind: str, taken: Taken):
    module = states_pb2 if kind == "Snapshot" else sessions_pb2
    return getattr(module, f"{kind}Request")(**taken.call())


def _put(world: World, name: str, header, checkpoint: Checkpoint) -> None:
    """Have a record made by a server that is gone."""
    gone = Owner("gone", "")
    saves = Saves([name], [header], [9], [NOT_COUNTED], [checkpoint], [""])
    assert world.store.save(saves, gone) == [True]
