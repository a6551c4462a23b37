"""The asyncio client against a real gRPC server."""

import asyncio

import numpy as np
import pytest

import carousel_client as carousel
from carousel.v1 import sessions_pb2 as pb
from tests.client.fake import MODELS


@pytest.fixture
async def aclient(fake, quick):
    async with carousel.aio.connect(fake.address, **quick) as made:
        yield made


async def test_steps_of_one_turn_share_a_message(aclient, fake):
    sessions = [await aclient.open("sum") for _ in range(50)]
    answers = await asyncio.gather(*(s.step([i, 1]) for i, s in enumerate(sessions)))
    assert [answer.tolist() for answer in answers] == [[i, 1] for i in range(50)]
    assert len(fake.requests) == 1
    other = await aclient.open("scalar")
    await asyncio.gather(sessions[0].step([1, 1]), other.step(1), sessions[1].step([[1, 1]] * 3))
    assert sorted((step.model, len(step.handles) // 8) for step in list(fake.requests)[1:]) == [
        ("scalar", 1),
        ("sum", 2),
    ]


async def test_steps_of_one_session_in_one_turn_are_joined(aclient, fake):
    session = await aclient.open("sum")
    answers = await asyncio.gather(
        session.step([1, 1]), session.step([[1, 1], [1, 1]]), session.step([1, 1])
    )
    assert [answer.tolist() for answer in answers] == [[1, 1], [[2, 2], [3, 3]], [4, 4]]
    assert len(fake.requests) == 1


async def test_one_failing_row_leaves_its_neighbours(aclient, fake):
    sessions = [await aclient.open("sum", name) for name in "abc"]
    fake.switches.rows = {"b": [(pb.ROW_STATUS_MODEL_ERROR, 0)]}
    found = await asyncio.gather(*(s.step([1, 1]) for s in sessions), return_exceptions=True)
    assert found[0].tolist() == found[2].tolist() == [1, 1]
    assert isinstance(found[1], carousel.ModelError)
    assert found[1].session == "b"
    assert "row said 8" in str(found[1])


async def test_the_whole_surface(aclient, fake):
    assert len(await aclient.models()) == len(MODELS)
    assert (await aclient.model("sum")).version == "2"
    assert (await aclient.info()).server_id == fake.server_id
    async with aclient.open("sum", "one", initial_states={"total": [1, 1]}) as session:
        assert (await session.step([1, 1])).tolist() == [2, 2]
        await session.reset()
        assert session.applied == 0
        assert [found.id for found in await aclient.sessions("sum")] == ["one"]
        taken = await aclient.attach("sum", "one")
        with pytest.raises(carousel.StaleHandle):
            await session.step([1, 1])
        await taken.step([1, 1])
        await taken.close()
    async with aclient.open_many("sum", 3) as group:
        assert (await group.step(np.ones((3, 2)))).shape == (3, 2)
        await group.reset([1])
        assert group.applied.tolist() == [1, 0, 1]
        again = await aclient.attach_many("sum", group.ids)
        assert (await again.step([np.ones((1, 2)), [], np.ones((2, 2))]))[2].tolist() == [
            [2, 2],
            [3, 3],
        ]
        await again.close()
    assert not fake.sessions


async def test_stream_takes_both_kinds_of_iterables(aclient, fake):
    async def live():
        for i in range(20):
            yield [i, 0]

    session = await aclient.open("sum")
    answers = [answer async for answer in session.stream(live(), window=4)]
    answers += [answer async for answer in session.stream([[1, 0], [[1, 0], [1, 0]]])]
    assert answers[19].tolist() == [190, 0]
    assert answers[-1].tolist() == [[192, 0], [193, 0]]

    async def broken():
        yield [1, 0]
        raise OSError("gone")

    stream = session.stream(broken())
    assert (await anext(stream)).tolist() == [194, 0]
    with pytest.raises(OSError, match="gone"):
        await anext(stream)


async def test_stream_gives_an_answer_before_the_next_input_is_there(aclient):
    gate = asyncio.Event()

    async def source():
        yield [1, 2]
        await gate.wait()
        yield [3, 4]

    stream = (await aclient.open("sum")).stream(source())
    assert (await anext(stream)).tolist() == [1, 2]
    gate.set()
    assert (await anext(stream)).tolist() == [4, 6]
    await stream.aclose()


async def test_deadlines_and_cancelling(aclient, fake):
    session, let_go = await aclient.open("sum"), fake.hold()
    with pytest.raises(carousel.DeadlineExceeded):
        await session.step([1, 1], timeout=0.05)
    let_go()
    assert (await session.step([1, 1])).tolist() == [2, 2]
    let_go = fake.hold()
    task = asyncio.create_task(session.step([1, 1]))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    let_go()
    assert (await session.step([1, 1])).tolist() == [4, 4]
    assert session.applied == 4


async def test_busy_rows_are_sent_again(aclient, fake):
    fake.switches.rows = {"a": [(pb.ROW_STATUS_BUSY, 0)] * 2}
    session = await aclient.open("sum", "a")
    assert (await session.step([1, 1])).tolist() == [1, 1]
    assert len(fake.requests) == 3


async def test_reconnect(aclient, fake):
    sessions = [await aclient.open("sum", name) for name in "abc"]
    await sessions[0].step([1, 1])
    fake.switches.breaks = ["before"]
    answers = await asyncio.gather(*(session.step([1, 1]) for session in sessions))
    assert [answer.tolist() for answer in answers] == [[2, 2], [1, 1], [1, 1]]
    assert sorted(fake.attaches[0]) == ["a", "b", "c"]
    fake.switches.breaks = ["after"]
    found = await asyncio.gather(*(s.step([1, 1]) for s in sessions), return_exceptions=True)
    assert {type(one) for one in found} == {carousel.AnswersLost}
    assert (await sessions[0].step([1, 1])).tolist() == [4, 4]
    await asyncio.to_thread(fake.restart)
    with pytest.raises(carousel.SessionLost):
        await sessions[1].step([1, 1])
    assert (await (await aclient.open("sum")).step([1, 1])).tolist() == [1, 1]


async def test_a_connection_that_does_not_come_back_is_given_up(fake, quick):
    async with carousel.aio.connect(fake.address, **(quick | {"timeout": 0.3})) as client:
        session = await client.open("sum")
        await session.step([1, 1])
        await asyncio.to_thread(fake.stop)
        with pytest.raises(carousel.Unavailable):
            await session.step([1, 1])
        await asyncio.to_thread(fake.start)
        assert (await session.step([1, 1])).tolist() == [2, 2]


async def test_closing_the_client_releases_those_who_wait(fake, quick):
    client = await carousel.aio.connect(fake.address, **quick)
    session, let_go = await client.open("sum"), fake.hold()
    task = asyncio.create_task(session.step([1, 1]))
    await asyncio.sleep(0.05)
    await client.close()
    with pytest.raises(carousel.ClientClosed):
        await task
    let_go()
    with pytest.raises(carousel.ClientClosed):
        await session.step([1, 1])
    with pytest.raises(carousel.ClientClosed, match="await"):
        await carousel.aio.connect(fake.address).models()
    with pytest.raises(carousel.Unavailable):
        await carousel.aio.connect("127.0.0.1:1", **(quick | {"timeout": 0.1}))


async def test_another_event_loop_is_told_that_it_is_another(aclient):
    session = await aclient.open("sum")
    for call in (lambda: session.step([1, 1]), session.reset, aclient.models):

        async def there(call=call):
            await call()

        with pytest.raises(carousel.ClientClosed, match="belongs to the event loop that it was"):
            await asyncio.to_thread(asyncio.run, there())
    assert (await session.step([1, 1])).tolist() == [1, 1]
