"""Client loops: the same code drives Carousel through the generated stubs, and the echo."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from benchmarks.echo import METHOD
from benchmarks.network import FEATURES, NAME
from carousel import wire
from carousel.v1 import sessions_pb2, sessions_pb2_grpc, tensor_pb2

_OPTIONS = [
    ("grpc.max_receive_message_length", wire.DEFAULT_MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", wire.DEFAULT_MAX_MESSAGE_BYTES),
]


@dataclass
class Rows:
    """Sessions that one loop steps together, and where they stand."""

    version: str
    server_id: int
    handles: bytes
    count: int
    at: int = 0
    x: bytes = field(default=b"")

    def request(self, number: int) -> sessions_pb2.StreamRequest:
        """Return the message of the sessions' next single steps."""
        message = sessions_pb2.StreamRequest()
        step = message.step
        step.id = number
        step.model = NAME
        step.version = self.version
        step.server_id = self.server_id
        step.handles = self.handles
        step.first_step = np.full(self.count, self.at, wire.STEP_COUNT_DTYPE).tobytes()
        tensor = step.inputs.add()
        tensor.name = "x"
        tensor.dtype = tensor_pb2.DATA_TYPE_FLOAT32
        tensor.shape.extend((self.count, FEATURES))
        tensor.data = self.x
        self.at += 1
        return message


def channel(address: str) -> grpc.aio.Channel:
    """Return a channel without a limit that a benchmark would meet."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


async def open_rows(connected: grpc.aio.Channel, *counts: int) -> list[Rows]:
    """Open sessions in groups of `counts`."""
    stub = sessions_pb2_grpc.SessionServiceStub(connected)
    opened = await stub.Open(sessions_pb2.OpenRequest(model=NAME, count=sum(counts)))
    groups, first = [], 0
    for count in counts:
        handles = opened.handles[8 * first : 8 * (first + count)]
        x = np.random.default_rng(first).normal(size=(count, FEATURES)).astype(np.float32)
        groups.append(Rows(opened.version, opened.server_id, handles, count, x=x.tobytes()))
        first += count
    return groups


async def close_rows(connected: grpc.aio.Channel, groups: list[Rows]) -> None:
    """Close the sessions again, so that one run leaves nothing to the next."""
    stub = sessions_pb2_grpc.SessionServiceStub(connected)
    for rows in groups:
        await stub.Close(
            sessions_pb2.CloseRequest(
                model=NAME, version=rows.version, server_id=rows.server_id, handles=rows.handles
            )
        )


def carousel_call(connected: grpc.aio.Channel) -> Any:
    """Return a stream of Carousel's."""
    return sessions_pb2_grpc.SessionServiceStub(connected).Stream()


def echo_call(connected: grpc.aio.Channel) -> Any:
    """Return a stream of the echo's; it gives requests back, so it is read as requests."""
    return connected.stream_stream(
        METHOD,
        request_serializer=sessions_pb2.StreamRequest.SerializeToString,
        response_deserializer=sessions_pb2.StreamRequest.FromString,
    )()


async def ping_pong(call: Any, rows: Rows, messages: int) -> list[float]:
    """Send messages, each when the last one is answered; return the seconds that each took."""
    times = []
    for number in range(messages):
        began = time.perf_counter()
        await call.write(rows.request(number))
        answer = await call.read()
        times.append(time.perf_counter() - began)
        check(answer, number)
    return times


async def keep_full(call: Any, rows: Rows, messages: int, window: int) -> None:
    """Send messages with up to `window` of them unanswered."""
    room = asyncio.Semaphore(window)

    async def send() -> None:
        for number in range(messages):
            await room.acquire()
            await call.write(rows.request(number))

    sender = asyncio.create_task(send())
    for _ in range(messages):
        check(await call.read(), None)
        room.release()
    await sender


def check(answer: Any, number: int | None) -> None:
    """Refuse an answer that is not a whole and good one."""
    step = answer.step
    if isinstance(answer, sessions_pb2.StreamResponse) and (
        not step.done or step.status or step.HasField("error")
    ):
        raise RuntimeError(f"a step was not answered well: {answer}")
    if number is not None and step.id != number:
        raise RuntimeError(f"request {number} was answered as {step.id}")
