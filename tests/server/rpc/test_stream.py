"""One stream: requests in, answers out, each side at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from carousel.v1 import sessions_pb2
from carousel_server.errors import Draining
from carousel_server.rpc import stream as module
from carousel_server.rpc.stream import OpenStreams, StepStream


class Gate:
    """Keeps requests until the test answers them."""

    def __init__(self) -> None:
        self.waiting: dict[int, Callable[[sessions_pb2.StreamResponse], None]] = {}
        self.at_once = False
        self.soon = False

    def new_stream(self) -> int:
        return 1

    def submit(self, request, send, *, stream=0, spans=None) -> None:
        self.waiting[request.id] = send
        if self.at_once:
            self.answer(request.id)
        elif self.soon:
            asyncio.get_running_loop().call_soon(self.answer, request.id)

    def answer(self, number: int, *, done: bool = True) -> None:
        send = self.waiting.pop(number) if done else self.waiting[number]
        response = sessions_pb2.StreamResponse()
        response.step.id, response.step.done = number, done
        send(response)


class Client:
    """The other end: sends when told to, and reads unless told not to."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[sessions_pb2.StreamRequest | None] = asyncio.Queue()
        self.taken = 0
        self.got: list[sessions_pb2.StreamResponse] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.writes = 0

    async def __aiter__(self):
        while (request := await self.requests.get()) is not None:
            await asyncio.sleep(0)
            self.taken += 1
            yield request

    async def put(self, response: sessions_pb2.StreamResponse) -> None:
        self.writes += 1
        assert self.writes == 1, "gRPC takes one message at a time"
        await self.reading.wait()
        await asyncio.sleep(0)
        self.got.append(response)
        self.writes -= 1

    def send(self, *numbers: int) -> None:
        for number in numbers:
            step = sessions_pb2.StepRequest(id=number)
            self.requests.put_nowait(sessions_pb2.StreamRequest(step=step))

    def end(self) -> None:
        self.requests.put_nowait(None)

    @property
    def ids(self) -> list[int]:
        return [response.step.id for response in self.got]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def client() -> Client:
    return Client()


@pytest.fixture
async def stream(gate, client) -> StepStream:
    return StepStream(gate, client, client.put)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_answers_leave_in_the_order_they_come_and_the_stream_ends_with_the_last(
    gate, client, stream
):
    running = asyncio.create_task(stream.run())
    client.send(1, 2, 3)
    client.end()
    await settle()
    gate.answer(3)
    gate.answer(1, done=False)
    await settle()
    assert client.ids == [3, 1]
    gate.answer(2)
    await settle()
    assert not running.done(), "1 has had a part of its answer only"
    gate.answer(1)
    await running
    assert client.ids == [3, 1, 2, 1]


async def test_what_is_answered_at_once(gate, client, stream):
    gate.at_once = True
    running = asyncio.create_task(stream.run())
    for number in range(5):
        client.send(number)
        await settle()
        assert client.ids == list(range(number + 1))
    client.end()
    await running


async def test_a_message_without_a_body_is_answered_with_an_error(client, stream):
    client.requests.put_nowait(sessions_pb2.StreamRequest())
    client.end()
    await stream.run()
    (response,) = client.got
    assert response.step.error.message == "the message has no body; a step was expected"
    assert response.step.done


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_client_that_does_not_read_is_not_read_from(
    gate, client, stream, monkeypatch, at_once
):
    monkeypatch.setattr(module, "_MAX_UNREAD", 4)
    gate.at_once, gate.soon = at_once, not at_once
    client.reading.clear()
    running = asyncio.create_task(stream.run())
    client.send(*range(100))
    client.end()
    for _ in range(30):
        await settle()
    assert client.taken < 10
    assert not client.got
    client.reading.set()
    async with asyncio.timeout(10):
        await running
    assert sorted(client.ids) == list(range(100))


async def test_an_end_from_this_side_answers_what_was_read(gate, client, stream):
    running = asyncio.create_task(stream.run())
    client.send(1, 2)
    await settle()
    stream.end()
    client.send(3)
    await settle()
    assert not running.done()
    gate.answer(2)
    gate.answer(1)
    with pytest.raises(Draining):
        await running
    assert client.ids == [2, 1]
    assert client.taken == 2


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_end_in_the_middle_of_a_write_loses_no_answer(gate, client, stream, at_once):
    gate.at_once = at_once
    client.reading.clear()
    running = asyncio.create_task(stream.run())
    client.send(1)
    await settle()
    if not at_once:
        gate.answer(1)
        await settle()
    assert client.writes == 1
    stream.end()
    await settle()
    client.reading.set()
    async with asyncio.timeout(10):
        with pytest.raises(Draining):
            await running
    assert client.ids == [1]


async def test_a_stream_that_is_ended_as_soon_as_it_begins(client, stream):
    running = asyncio.create_task(stream.run())
    await asyncio.sleep(0)  # the reader is there, and has not begun
    stream.end()
    async with asyncio.timeout(10):
        with pytest.raises(Draining):
            await running


async def test_a_stream_whose_client_breaks_off_fails(gate, stream, client):
    class Broken(Exception):
        pass

    async def requests():
        yield sessions_pb2.StreamRequest(step=sessions_pb2.StepRequest(id=1))
        raise Broken

    stream = StepStream(gate, requests(), client.put)
    async with asyncio.timeout(10):
        with pytest.raises(Broken):
            await stream.run()
    gate.answer(1)  # nobody hears it, and nobody minds


async def test_a_fault_while_a_request_is_taken_in_ends_the_stream(client):
    class Faulty(Gate):
        def submit(self, request, send, *, stream=0, spans=None) -> None:
            raise KeyError("unforeseen")

    stream = StepStream(Faulty(), client, client.put)
    client.send(1)
    async with asyncio.timeout(10):
        with pytest.raises(KeyError):
            await stream.run()


async def test_notices_go_to_every_open_stream(gate):
    streams, clients = OpenStreams(), [Client(), Client()]
    running = [
        asyncio.create_task(streams.run(StepStream(gate, client, client.put))) for client in clients
    ]
    await settle()
    assert len(streams) == 2
    streams.notify(lambda: sessions_pb2.StreamResponse(draining=sessions_pb2.DrainNotice()))
    await settle()
    for client in clients:
        assert [response.WhichOneof("body") for response in client.got] == ["draining"]
    streams.end()
    for ended in await asyncio.gather(*running, return_exceptions=True):
        assert isinstance(ended, Draining)
    assert not len(streams)
