"""Sessions that begin: with a record, without one, and with an id that was used before."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from carousel.v1 import sessions_pb2, tensor_pb2
from carousel_server.engine import controls, transfers
from carousel_server.engine.checkpoints import SavePolicy
from carousel_server.engine.status import RowStatus
from carousel_server.errors import NoRoom, SessionExists, SessionNotFound, SessionsMoved
from tests.support.bench import chunk
from tests.support.members import LEASE, Taken
from tests.support.recurrence import solo

OK = RowStatus.OK
XS = chunk(40)


async def walk(
    taken: Taken, begin: int, end: int, *, state: float = 0.0, delivered: int | None = None
) -> None:
    """Step one by one, and compare; the client counts, or always says the same."""
    ys = solo(XS, state)
    for step in range(begin, end):
        count = step if delivered is None else delivered
        answer = await taken.step(XS[step : step + 1], first=step, delivered=count)
        assert answer.status is OK
        np.testing.assert_array_equal(answer.y, ys[step : step + 1])


def starting_at(value: float) -> dict:
    """Return the fields of a call that opens a session with a state."""
    data = np.array([value]).tobytes()
    kind = tensor_pb2.DATA_TYPE_FLOAT64
    return {"initial_states": [tensor_pb2.Tensor(name="s", dtype=kind, shape=[1], data=data)]}


async def test_an_id_is_one_session_s_over_all_servers(world):
    a, b = await world.pair()
    await a.open("s")
    with pytest.raises(SessionExists, match="'s' is open already"):
        await b.open("fresh", "s")
    assert len(b.directory) == 0
    assert world.store.steps("fresh") is None
    await b.open("fresh")
    with pytest.raises(SessionExists):
        await a.open("s")


async def test_an_id_is_free_again_when_its_session_was_closed(world):
    a, b = await world.pair()
    for member in (a, b, b, a):
        taken = await member.open("s")
        await walk(taken, 0, 9)
        assert await member.close(taken) == []
        await member.saved()
        assert world.store.steps("s") is None
    taken = await b.open("s")
    await walk(taken, 0, 9)
    await b.saved()
    assert (await taken.step(XS[9:10])).durable == 8


@pytest.mark.parametrize("delivered", [0, -1])
async def test_an_id_is_used_again_with_the_servers_own_store(world, delivered):
    """A session must not meet what its id's last one left behind."""
    a = await world.member("a", shared=False)
    for state in (0.0, 3.0, 0.0, 8.0):
        taken = await a.open("s", **(starting_at(state) if state else {}))
        await walk(taken, 0, 9, state=state, delivered=delivered)
        await a.saved()
        again = await a.attach("s", delivered=[2])
        assert again.applied == [0]
        await walk(again, 0, 5, state=state, delivered=delivered)
        await a.close(again)


async def test_the_servers_own_store_keeps_nothing_of_sessions_that_ended(world):
    a = await world.member("a", shared=False)
    store = a.keeping._keeper._store
    counted, plain = await a.open("counted"), await a.open("plain")
    given = await a.open("given", **starting_at(4.0))
    await walk(counted, 0, 9)
    await walk(plain, 0, 9, delivered=-1)
    await a.saved()
    found = store.load(["counted", "plain", "given"])
    assert [record is not None for record in found] == [True, False, True]
    for taken in (counted, plain, given):
        await a.close(taken)
    assert store.load(["counted", "plain", "given"]) == [None] * 3


async def test_expired_sessions_leave_no_record(world):
    a, b = await world.pair()
    await walk(await a.open("s"), 0, 5)
    await a.saved()
    world.clock.now += 100
    ended = await a.served.driver.control(controls.Expire(50))
    await a.keeping.delete(ended)
    assert world.store.steps("s") is None
    world.let_pass(LEASE * 2)
    with pytest.raises(SessionNotFound):
        await b.attach("s")
    with pytest.raises(SessionNotFound, match="expired"):
        await a.attach("s")


async def test_states_that_a_client_gave_are_saved_from_the_start(world):
    a, b = await world.pair()
    await a.open("s", **starting_at(6.0))
    assert world.store.steps("s") == [0]
    world.crash(a)
    taken = await b.attach("s", delivered=[0])
    assert taken.applied == [0]
    await walk(taken, 0, 5, state=6.0)


async def test_a_session_that_is_opened_while_the_store_is_away_is_saved_when_it_is_back(world):
    a, b = await world.pair()
    world.store.away = True
    taken = await a.open("s")
    await walk(taken, 0, 9)
    assert world.store.steps("s") is None
    world.store.away = False
    world.let_pass(LEASE * 3)
    await a.saved()
    assert world.store.steps("s")[-1] == 8
    assert world.store.load(["s"])[0].token == 1
    await walk(taken, 9, 13)
    await a.saved()
    assert (await taken.step(XS[13:14])).durable == 12
    world.crash(a)
    again = await b.attach("s", delivered=[14])
    assert again.applied == [12]
    await walk(again, 12, 20)


async def test_an_id_that_was_used_before_is_opened_while_the_store_is_away(world):
    """What is remembered of its last session must not refuse the new one."""
    a, _ = await world.pair()
    old = await a.open("s")
    await walk(old, 0, 9)
    await a.close(old)
    world.store.away = True
    taken = await a.open("s")
    await walk(taken, 0, 9)
    world.store.away = False
    world.let_pass(LEASE * 3)
    await a.saved()
    await walk(taken, 9, 13)
    assert world.store.load(["s"])[0].token == 2


async def test_closed_and_opened_again_and_again_while_the_store_is_away(world):
    a, _ = await world.pair()
    taken = await a.open("s")
    await walk(taken, 0, 5)
    await a.saved()
    world.store.away = True
    for _ in range(3):
        await a.close(taken)
        taken = await a.open("s")
        await walk(taken, 0, 5)
    world.store.away = False
    world.let_pass(LEASE * 3)
    await a.saved()
    assert world.store.steps("s")[-1] == 4
    await walk(taken, 5, 13)
    await a.saved()
    assert world.store.steps("s")[-1] == 12
    assert (await taken.step(XS[13:14])).status is OK
    await a.close(taken)
    assert world.store.steps("s") is None


async def test_opened_and_closed_while_the_store_is_away_leaves_nothing(world):
    a, b = await world.pair()
    world.store.away = True
    taken = await a.open("s")
    await walk(taken, 0, 5)
    await a.close(taken)
    world.store.away = False
    world.let_pass(LEASE * 3)
    await a.saved()
    assert world.store.steps("s") is None
    await b.open("s")


async def test_an_id_that_another_server_has_turns_out_to_be_taken(world):
    a, b = await world.pair()
    theirs = await b.open("s")
    await walk(theirs, 0, 5)
    await b.saved()
    world.store.away = True
    ours = await a.open("s")
    await walk(ours, 0, 5)
    world.store.away = False
    world.let_pass(LEASE * 3)
    await a.saved()
    assert (await ours.step(XS[5:6])).status is RowStatus.MOVED
    assert world.store.steps("s") == [4]
    with pytest.raises(SessionsMoved):
        await a.attach("s")
    await walk(theirs, 5, 9)


async def test_strict_durability_waits_for_the_record_too(world):
    a = await world.member("a", saves=SavePolicy(strict=True, counted_only=False))
    world.store.away = True
    taken = await a.open("s")
    stepping = asyncio.create_task(taken.step(XS[:3], first=0))
    await asyncio.sleep(0.1)
    assert not stepping.done()
    world.store.away = False
    answer = await stepping
    assert (answer.status, answer.durable) == (OK, 3)
    assert world.store.steps("s") == [3]


async def test_an_open_that_finds_no_room_makes_no_record(world):
    a = await world.member("a", sessions=2)
    with pytest.raises(NoRoom):
        await a.open("s", "t", "u")
    assert "create" not in world.store.names()
    await a.open("s", "t")


async def test_opening_at_once_with_ids_in_common(world):
    a, _ = await world.pair()
    results = await asyncio.gather(
        *(a.open(*ids) for ids in (["s"], ["s", "t"], ["t"], ["u", "t"])), return_exceptions=True
    )
    opened = [name for taken in results if isinstance(taken, Taken) for name in taken.ids]
    assert len(opened) == len(set(opened))
    assert {type(r) for r in results} == {Taken, SessionExists}
    for name in opened:
        taken = await a.attach(name)
        await walk(taken, 0, 5)
    await a.saved()
    assert {world.store.steps(name)[-1] for name in opened} == {4}


async def test_attaching_to_what_is_being_opened_waits_for_it(world):
    a, b = await world.pair()
    await b.open("s")
    opening, attaching = await asyncio.gather(a.open("s"), a.attach("s"), return_exceptions=True)
    assert isinstance(opening, SessionExists)
    assert isinstance(attaching, SessionsMoved)


async def test_a_parked_session_is_saved_and_taken_over(world):
    a, b = await world.pair()
    taken = await a.open("s")
    await walk(taken, 0, 3)
    world.clock.now += 0.1
    assert await a.served.driver.control(controls.Park(0.05)) == 1
    await a.saved()
    assert world.store.steps("s") == [3]
    world.crash(a)
    again = await b.attach("s", delivered=[3])
    assert again.applied == [3]
    await walk(again, 3, 9)


async def test_durable_is_told_of_by_get_and_list(world):
    a, _ = await world.pair()
    taken = await a.open("s")
    await a.open("t")
    await walk(taken, 0, 6)
    await a.saved()
    got = await a.service.Get(sessions_pb2.GetSessionRequest(id="s"), None)
    assert (got.session.applied, got.session.durable) == (6, 4)
    listed = await a.service.List(sessions_pb2.ListSessionsRequest(), None)
    assert [(one.id, one.applied, one.durable) for one in listed.sessions] == [
        ("s", 6, 4),
        ("t", 0, 0),
    ]


async def test_a_counting_client_of_the_servers_own_store_hears_what_is_durable(world):
    a = await world.member("a", shared=False)
    taken = await a.open("s")
    await walk(taken, 0, 6)
    await a.saved()
    assert (await taken.step(XS[6:7])).durable == 4
    plain = await a.open("t")
    await walk(plain, 0, 6, delivered=-1)
    await a.saved()
    assert (await plain.step(XS[6:7])).durable == 0
    assert await a.served.driver.control(transfers.SaveLate()) is False
