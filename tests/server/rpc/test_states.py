"""Copies, marks and states, over the calls that clients make."""

from __future__ import annotations

import numpy as np
import pytest

from carousel.v1 import sessions_pb2, states_pb2
from carousel_server.engine.status import RowStatus
from carousel_server.errors import Draining, InvalidRequest, NoRoom, SessionExists, SnapshotMismatch
from tests.support.bench import chunk
from tests.support.members import Member, Taken
from tests.support.recurrence import solo

OK, NOT_FOUND = RowStatus.OK, RowStatus.NOT_FOUND
XS = chunk(30)
YS = solo(XS)


async def walk(taken: Taken, begin: int, end: int, *, row: int = 0, delivered: int = -1) -> None:
    for step in range(begin, end):
        answer = await taken.step(XS[step : step + 1], row=row, first=step, delivered=delivered)
        assert answer.status is OK
        np.testing.assert_array_equal(answer.y, YS[step : step + 1])


async def restore(member: Member, snapshots: list[bytes], *ids: str) -> Taken:
    request = states_pb2.RestoreRequest(model="m", snapshots=snapshots, ids=ids)
    return made(member, await member.service.Restore(request, None))


async def fork(member: Member, taken: Taken, **fields) -> tuple[int, Taken]:
    call = taken.call()
    handle = np.frombuffer(call.pop("handles"), "<u8")[0]
    response = await member.service.Fork(
        states_pb2.ForkRequest(handle=int(handle), **fields, **call), None
    )
    return response.status, made(member, response)


def made(member: Member, response) -> Taken:
    handles = np.frombuffer(response.handles, "<u8").tolist()
    applied = np.frombuffer(response.applied, "<u8").tolist()
    return Taken(member, "1", list(response.ids), handles, applied, applied, [OK] * len(handles))


async def snapshots(member: Member, taken: Taken) -> list[bytes]:
    response = await member.service.Snapshot(states_pb2.SnapshotRequest(**taken.call()), None)
    assert response.status == b""
    return list(response.snapshots)


@pytest.fixture(params=[True, False], ids=["shared", "own"])
async def a(world, request) -> Member:
    return await world.member("a", shared=request.param, sessions=2000)


async def test_restored_sessions_go_on_and_leave_the_first_alone(a):
    taken = await a.open("s", "t")
    await walk(taken, 0, 5)
    await walk(taken, 0, 2, row=1)
    copies = await restore(a, await snapshots(a, taken))
    assert copies.applied == [5, 2]
    assert len(set(copies.ids) | {"s", "t"}) == 4
    await walk(copies, 5, 12)
    await walk(copies, 2, 8, row=1)
    await walk(taken, 5, 9)
    named = await restore(a, await snapshots(a, copies), "u", "v")
    assert (named.ids, named.applied) == (["u", "v"], [12, 8])


async def test_a_snapshot_outlives_its_session_and_its_server(world):
    a = await world.member("a")
    taken = await a.open("s")
    await walk(taken, 0, 5)
    saved = await snapshots(a, taken)
    await a.close(taken)
    world.crash(a)
    b = await world.member("b")
    again = await restore(b, saved, "s")
    await walk(again, 5, 9)
    await b.saved()
    assert world.store.steps("s")[-1] == 9


async def test_restoring_is_all_or_none_and_says_which_is_wrong(a):
    taken = await a.open("s")
    good = await snapshots(a, taken)
    with pytest.raises(SnapshotMismatch, match=r"snapshot 1: the snapshot can't be used"):
        await restore(a, [*good, good[0][:-1]])
    with pytest.raises(SessionExists):
        await restore(a, good * 2, "new", "s")
    with pytest.raises(InvalidRequest, match="2 snapshots and 1 ids came"):
        await restore(a, good * 2, "new")
    with pytest.raises(InvalidRequest, match="0 snapshots and 0 ids came"):
        await restore(a, [])
    assert len(a.directory) == 1


async def test_a_session_is_forked_into_a_thousand_that_are_independent(a):
    taken = await a.open("s")
    await walk(taken, 0, 4)
    status, copies = await fork(a, taken, count=1000)
    assert status == 0
    assert len(set(copies.ids)) == 1000
    assert copies.applied == [4] * 1000
    own = np.arange(2000.0).reshape(1000, 2)
    for row in range(0, 1000, 97):
        answer = await copies.step(own[row : row + 1], row=row, first=4)
        expected = solo(np.concatenate([XS[:4], own[row : row + 1]]))[4:]
        np.testing.assert_array_equal(answer.y, expected)
    await walk(taken, 4, 9)
    await walk(copies, 4, 9, row=1)
    await a.close(taken)
    await walk(copies, 9, 12, row=1)


async def test_forks_with_ids_of_their_own(a):
    taken = await a.open("s")
    await walk(taken, 0, 4)
    _, copies = await fork(a, taken, ids=["x", "y"])
    assert copies.ids == ["x", "y"]
    await walk(copies, 4, 6, row=1)
    with pytest.raises(SessionExists):
        await fork(a, taken, ids=["z", "x"])
    with pytest.raises(InvalidRequest):
        await fork(a, taken)
    with pytest.raises(NoRoom):
        await fork(a, taken, count=1998)
    assert len(a.directory) == 3


async def test_a_fork_is_taken_over_like_any_other(world):
    a, b = await world.pair()
    taken = await a.open("s")
    await walk(taken, 0, 5)
    await fork(a, taken, ids=["f"])
    assert world.store.steps("f") == [5]
    world.crash(a)
    again = await b.attach("f", delivered=[5])
    assert again.applied == [5]
    await walk(again, 5, 9)


async def test_a_handle_that_is_not_valid_makes_no_copies(a):
    taken = await a.open("s")
    await a.attach("s")
    assert (await fork(a, taken, count=3))[0] == RowStatus.STALE_HANDLE
    assert len(a.directory) == 1


async def test_rows_that_are_not_valid_have_their_status_in_every_call(a):
    stale = await a.open("s")
    fresh = await a.attach("s")
    await walk(fresh, 0, 3)
    call = fresh.call()
    call["handles"] = np.array([fresh.handles[0], stale.handles[0], 999], "<u8").tobytes()
    expected = [OK, RowStatus.STALE_HANDLE, NOT_FOUND]
    taken = await a.service.Snapshot(states_pb2.SnapshotRequest(**call), None)
    assert list(taken.status) == expected
    assert [bool(data) for data in taken.snapshots] == [True, False, False]
    marked = await a.service.Mark(states_pb2.MarkRequest(name="m", **call), None)
    assert list(marked.status) == expected
    assert np.frombuffer(marked.applied, "<u8").tolist() == [3, 0, 0]
    state = await a.service.GetState(states_pb2.GetStateRequest(**call), None)
    assert list(state.status) == expected
    (tensor,) = state.states
    assert tensor.name == "s"
    assert list(tensor.shape) == [1]
    assert np.frombuffer(tensor.data).tolist() == [YS[2, 0]]
    rewound = await a.service.Rewind(states_pb2.RewindRequest(mark="m", **call), None)
    assert list(rewound.status) == expected
    call["server_id"] += 1
    for name in ("Snapshot", "GetState"):
        request = getattr(states_pb2, f"{name}Request")(**call)
        answer = await getattr(a.service, name)(request, None)
        assert list(answer.status) == [RowStatus.STALE_HANDLE] * 3


async def test_going_back_to_a_mark_and_to_a_step(a):
    taken = await a.open("s")
    await walk(taken, 0, 3, delivered=0)
    assert await a.mark(taken, "here") == [3]
    await walk(taken, 3, 14, delivered=0)
    await a.saved()
    assert await a.rewind(taken, step=9) == ([0], [8])
    await walk(taken, 8, 14, delivered=0)
    await a.saved()
    assert await a.rewind(taken, mark="here") == ([0], [3])
    await walk(taken, 3, 6, delivered=0)
    assert await a.rewind(taken, step=0) == ([0], [0])
    await walk(taken, 0, 6, delivered=0)


async def test_there_may_be_nowhere_to_go_back_to(a):
    taken = await a.open("s")
    await walk(taken, 0, 3)
    assert await a.rewind(taken, step=2) == ([NOT_FOUND], [0])
    assert await a.rewind(taken, mark="m") == ([NOT_FOUND], [0])
    await walk(taken, 3, 5)
    with pytest.raises(InvalidRequest, match="a mark or a step to go back to was expected"):
        await a.rewind(taken)


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb"])
async def test_names_that_marks_cant_have(a, name):
    taken = await a.open("s")
    for call in (a.mark(taken, name), a.rewind(taken, mark=name)):
        with pytest.raises(InvalidRequest, match="a mark's name has 1 to 128 printable"):
            await call


async def test_too_many_marks(a):
    taken = await a.open("s")
    for number in range(16):
        await a.mark(taken, f"m{number}")
    with pytest.raises(NoRoom, match="at most 16 marks"):
        await a.mark(taken, "more")


async def test_a_mark_of_a_session_that_was_not_saved_before_is_where_it_can_go_on(world):
    """A record that the store lost is made again by a mark: it needs a place to go on from."""
    a, b = await world.pair()
    taken = await a.open("s")
    await walk(taken, 0, 3)
    world.store._states.clear()
    await a.mark(taken, "m")
    world.crash(a)
    again = await b.attach("s")
    assert again.applied == [3]
    await walk(again, 3, 5)


async def test_a_reset_of_a_session_that_began_elsewhere(a):
    taken = await a.open("s")
    await walk(taken, 0, 5)
    copy = await restore(a, await snapshots(a, taken), "c")
    response = await a.service.Reset(sessions_pb2.ResetRequest(**copy.call()), None)
    assert response.status == b""
    await walk(copy, 0, 3, delivered=0)
    # It is not put to the state that it was restored with: that is another course.
    again = await a.attach("c", delivered=[2])
    assert again.applied == [0]
    await walk(again, 0, 3)


async def test_nothing_begins_at_a_server_that_goes_down(a):
    taken = await a.open("s")
    saved = await snapshots(a, taken)
    a.lifecycle.draining = True
    with pytest.raises(Draining):
        await restore(a, saved)
    with pytest.raises(Draining):
        await fork(a, taken, count=1)
    with pytest.raises(Draining):
        await a.attach("s")
