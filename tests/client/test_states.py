"""States taken out, put back, copied and gone back to; sync and asyncio."""

import threading

import numpy as np
import pytest
from google.rpc import code_pb2

import carousel_client as carousel
from tests.client.fake import status


def test_a_snapshot_makes_a_session_that_goes_on(client, fake):
    session = client.open("sum")
    session.step([[1, 2], [3, 4]])
    saved = session.snapshot()
    assert isinstance(saved, bytes)
    session.step([10, 10])
    with client.restore("sum", saved, id="again") as again:
        assert (again.id, again.applied, again.version) == ("again", 2, "2")
        assert again.step([1, 1]).tolist() == [5, 7]
    older = client.restore("sum", saved, version="1")
    assert (older.version, older.applied) == ("1", 2)
    assert session.step([0, 0]).tolist() == [14, 16]


def test_groups_are_saved_and_restored_in_their_order(client):
    group = client.open_many("sum", 3)
    group.step([[i, 2 * i] for i in range(3)])
    saved = group.snapshot()
    twins = client.restore_many("sum", saved, ids=["a", "b", "c"])
    assert twins.ids == ("a", "b", "c")
    assert twins.step(np.ones((3, 2))).tolist() == [[1, 1], [2, 3], [3, 5]]
    assert len(client.restore_many("sum", saved[:2]).ids) == 2
    assert group.get_state()["total"].tolist() == [[0, 0], [1, 2], [2, 4]]


def test_a_snapshot_that_does_not_fit_is_told_in_words(client, fake):
    session = client.open("co2")
    saved = session.snapshot()
    with pytest.raises(carousel.SnapshotMismatch, match="shape"):
        client.restore("sum", saved)
    for wrong, why in [(b"", "no bytes"), ("text", "str"), (None, "NoneType")]:
        with pytest.raises(carousel.InvalidInput, match=why):
            client.restore("sum", wrong)
    with pytest.raises(carousel.InvalidInput, match="an id for each of 1"):
        client.restore_many("co2", [saved], ids=["a", "b"])
    with pytest.raises(carousel.InvalidInput, match="list of snapshots"):
        client.restore_many("co2", saved)
    client.restore("co2", saved, id="taken")
    with pytest.raises(carousel.SessionExists):
        client.restore("co2", saved, id="taken")
    with pytest.raises(carousel.ModelNotFound):
        client.restore("nothing", saved)


def test_marks_are_gone_back_to(client, fake):
    session = client.open("sum")
    session.step([1, 1])
    assert session.mark("one") == 1
    session.step([[1, 1], [1, 1]])
    assert session.rewind("one") == session.applied == 1
    assert session.step([5, 5]).tolist() == [6, 6]
    assert session.rewind(3) == 1  # where the newest checkpoint is
    with pytest.raises(carousel.MarkNotFound, match="no mark 'two'") as error:
        session.rewind("two")
    assert error.value.session == session.id
    for wrong in ("", "x" * 129, 1.5, True, -1, None):
        with pytest.raises(carousel.InvalidInput):
            session.rewind(wrong)
    with pytest.raises(carousel.InvalidInput, match="characters"):
        session.mark("")
    assert session.step([1, 1]).tolist() == [2, 2]


def test_groups_mark_and_rewind_by_rows(client):
    group = client.open_many("sum", 3)
    group.step([np.ones((i, 2)) for i in range(3)])
    assert group.mark("here").tolist() == [0, 1, 2]
    group.step(np.ones((3, 2)))
    assert group.rewind("here", [0, 2]).tolist() == [0, 2, 2]
    assert group.step(np.ones((3, 2))).tolist() == [[1, 1], [3, 3], [3, 3]]
    with pytest.raises(carousel.GroupError) as error:
        group.rewind("nowhere")
    assert {type(one) for one in error.value.errors.values()} == {carousel.MarkNotFound}
    assert group.rewind("here", []).tolist() == [1, 3, 3]


def test_forks_are_independent(client):
    session = client.open("sum")
    session.step([1, 2])
    with session.fork(3) as twins:
        assert twins.applied.tolist() == [1, 1, 1]
        assert len({session.id, *twins.ids}) == 4
        assert twins.step([[i, 0] for i in range(3)]).tolist() == [[1, 2], [2, 2], [3, 2]]
    assert session.fork(["a", "b"]).ids == ("a", "b")
    named, unnamed = session.fork_one("c"), session.fork_one()
    assert (named.id, named.applied) == ("c", 1)
    assert unnamed.step([1, 1]).tolist() == named.step([1, 1]).tolist() == [2, 3]
    assert session.step([0, 0]).tolist() == [1, 2]
    with pytest.raises(carousel.SessionExists):
        session.fork_one("c")
    with pytest.raises(carousel.InvalidInput):
        session.fork(0)
    session.close()
    with pytest.raises(carousel.SessionClosed):
        session.fork(2)


def test_calls_that_open_sessions_are_made_again_when_their_answer_was_lost(client, fake):
    session = client.open("sum")
    session.step([1, 1])
    saved = session.snapshot()
    for method in ("Restore", "Fork"):
        fake.switches.after_calls[method] = [status(code_pb2.UNAVAILABLE)]
        twin = client.restore("sum", saved) if method == "Restore" else session.fork_one()
        assert twin.applied == 1
        assert twin.step([1, 1]).tolist() == [2, 2]
    assert len(fake.sessions) == 3


def test_states_are_arrays_by_name(client):
    session = client.open("sum", initial_states={"total": [5, 6]})
    (name, state), *rest = session.get_state().items()
    assert (name, state.tolist(), state.dtype, rest) == ("total", [5, 6], np.float32, [])
    state += 1  # an array of the caller's own
    assert session.get_state()["total"].tolist() == [5, 6]


def test_a_detached_session_waits_for_whoever_attaches(client, fake):
    session = client.open("sum", "kept")
    session.step([1, 1])
    session.detach()
    with pytest.raises(carousel.SessionClosed, match="detached"):
        session.step([1, 1])
    assert client.attach("sum", "kept").step([1, 1]).tolist() == [2, 2]
    with client.open_many("sum", ["a", "b"]) as group:
        group.close(keep=True)
    assert client.attach_many("sum", ["a", "b"]).applied.tolist() == [0, 0]


def test_calls_wait_for_the_steps_before_them(client, fake):
    session = client.open("sum")
    let_go = fake.hold()
    answers = session.stream([[1, 1]] * 5, window=5)
    results = []
    reading = threading.Thread(target=lambda: results.extend(answers))
    reading.start()
    while not fake.requests:
        pass
    taking = threading.Thread(target=lambda: results.append(session.mark("after")))
    taking.start()
    let_go()
    reading.join()
    taking.join()
    assert session.applied == 5


@pytest.mark.parametrize("call", ["snapshot", "get_state", "fork_one"])
def test_a_session_that_is_another_s_by_now_is_told(client, call):
    session = client.open("sum", "mine")
    client.attach("sum", "mine")
    with pytest.raises(carousel.StaleHandle):
        getattr(session, call)()


@pytest.mark.parametrize(
    ("method", "call", "ruin"),
    [
        ("Snapshot", "snapshot", lambda a: a.ClearField("snapshots")),
        ("GetState", "get_state", lambda a: a.ClearField("states")),
        ("GetState", "get_state", lambda a: setattr(a.states[0], "data", b"")),
        ("GetState", "get_state", lambda a: setattr(a, "applied", b"")),
        ("Snapshot", "snapshot", lambda a: setattr(a, "status", b"\0\0")),
    ],
)
def test_answers_that_make_no_sense_are_errors(client, fake, method, call, ruin):
    session = client.open("sum")
    fake.switches.ruin[method] = ruin
    with pytest.raises(carousel.ServerError, match="cannot be read"):
        getattr(session, call)()


async def test_the_same_with_await(fake, quick):
    async with carousel.aio.connect(fake.address, **quick) as client:
        async with client.open("sum") as session:
            await session.step([1, 2])
            saved = await session.snapshot()
            assert await session.mark("one") == 1
            assert (await session.get_state())["total"].tolist() == [1, 2]
            await session.step([1, 1])
            assert await session.rewind("one") == 1
            async with session.fork(2) as twins:
                assert (await twins.step(np.ones((2, 2)))).tolist() == [[2, 3]] * 2
                assert len(await twins.snapshot()) == 2
            twin = await session.fork_one("twin")
            await twin.detach()
            assert (await client.attach("sum", "twin")).applied == 1
            assert (await session.step([1, 1])).tolist() == [2, 3]
        async with client.restore("sum", saved) as again:
            assert (await again.step([0, 0])).tolist() == [1, 2]
        group = await client.restore_many("sum", [saved, saved])
        assert (await group.mark("m")).tolist() == [1, 1]
        assert (await group.rewind("m")).tolist() == [1, 1]
        assert (await group.get_state())["total"].shape == (2, 2)
        await group.detach()
        with pytest.raises(carousel.GroupError):
            await group.rewind("m")
