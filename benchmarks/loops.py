"""Client loops: the same code drives Carousel through the generated stubs, and the echo."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

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
    handles: NDArray[np.uint64]  # (N,)
    lengths: NDArray[np.int64]  # (N,) steps that each message brings
    at: NDArray[np.uint64]  # (N,) steps sent so far
    x: bytes  # the steps of one message

    @property
    def steps(self) -> int:
        """Steps in a message."""
        return int(self.lengths.sum())

    def request(self, number: int) -> sessions_pb2.StreamRequest:
        """Return the message of the sessions' next steps."""
        message = sessions_pb2.StreamRequest()
        step = message.step
        step.id = number
        step.model = NAME
        step.version = self.version
        step.server_id = self.server_id
        step.handles = self.handles.tobytes()
        step.first_step = self.at.tobytes()
        if self.steps != len(self.lengths):
            step.lengths = self.lengths.astype(wire.LENGTH_DTYPE).tobytes()
        tensor = step.inputs.add()
        tensor.name = "x"
        tensor.dtype = tensor_pb2.DATA_TYPE_FLOAT32
        tensor.shape.extend((self.steps, FEATURES))
        tensor.data = self.x
        self.at += self.lengths.astype(np.uint64)
        return message


def channel(address: str) -> grpc.aio.Channel:
    """Return a channel without a limit that a benchmark would meet."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


async def open_rows(
    connected: grpc.aio.Channel, *groups: Sequence[int] | NDArray[np.int64]
) -> list[Rows]:
    """Open sessions; each group gives the steps that its rows bring in a message."""
    stub = sessions_pb2_grpc.SessionServiceStub(connected)
    count = sum(map(len, groups))
    opened = await stub.Open(sessions_pb2.OpenRequest(model=NAME, count=count))
    handles = np.frombuffer(opened.handles, wire.HANDLE_DTYPE)
    made, first = [], 0
    for group in groups:
        lengths = np.array(group, np.int64)
        x = np.random.default_rng(first).normal(size=(int(lengths.sum()), FEATURES))
        made.append(
            Rows(
                version=opened.version,
                server_id=opened.server_id,
                handles=handles[first : first + len(lengths)],
                lengths=lengths,
                at=np.zeros(len(lengths), np.uint64),
                x=x.astype(np.float32).tobytes(),
            )
        )
        first += len(lengths)
    return made


async def close_rows(connected: grpc.aio.Channel, *groups: Rows) -> None:
    """Close the sessions again, so that one run leaves nothing to the next."""
    stub = sessions_pb2_grpc.SessionServiceStub(connected)
    for rows in groups:
        await stub.Close(
            sessions_pb2.CloseRequest(
                model=NAME,
                version=rows.version,
                server_id=rows.server_id,
                handles=rows.handles.tobytes(),
            )
        )


def carousel_call(connected: grpc.aio.Channel) -> Any:
    """Return a stream of Carousel's."""
    stub: Any = sessions_pb2_grpc.SessionServiceStub(connected)
    return stub.Stream()


def echo_call(connected: grpc.aio.Channel) -> Any:
    """Return a stream of the echo's; it gives requests back, so it is read as requests."""
    call: Any = connected.stream_stream(
        METHOD,
        request_serializer=sessions_pb2.StreamRequest.SerializeToString,
        response_deserializer=sessions_pb2.StreamRequest.FromString,
    )
    return call()


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


async def keep_full(call: Any, rows: Rows | Sequence[Rows], messages: int, window: int) -> float:
    """Send messages with up to `window` of them unanswered; return the seconds it took.

    Of several rows each message takes the next ones, and begins again with the first.
    """
    room = asyncio.Semaphore(window)
    turns = [rows] if isinstance(rows, Rows) else rows

    async def send() -> None:
        for number in range(messages):
            await room.acquire()
            await call.write(turns[number % len(turns)].request(number))

    began = time.perf_counter()
    sender = asyncio.create_task(send())
    answered = 0
    while answered < messages:
        answer = await call.read()
        check(answer, None)
        if answer.step.done:
            answered += 1
            room.release()
    await sender
    return time.perf_counter() - began


def check(answer: Any, number: int | None) -> None:
    """Refuse an answer that is not a good one, or not to request `number`."""
    step = answer.step
    if isinstance(answer, sessions_pb2.StreamResponse) and (step.status or step.HasField("error")):
        raise RuntimeError(f"a step was not answered well: {answer}")
    if number is not None and step.id != number:
        raise RuntimeError(f"request {number} was answered as {step.id}")


async def step_once(connected: grpc.aio.Channel, rows: Rows) -> None:
    """Step once without a stream."""
    stub = sessions_pb2_grpc.SessionServiceStub(connected)
    answer = await stub.Step(rows.request(1).step)
    check(sessions_pb2.StreamResponse(step=answer), 1)


class Mixed(Rows):
    """Rows of two groups in one message; they go on where each of them stands."""

    def __init__(self, parts: Sequence[tuple[Rows, slice]]) -> None:
        self.parts = parts
        first = parts[0][0]
        handles = np.concatenate([rows.handles[part] for rows, part in parts])
        size = len(handles) * FEATURES * 4
        super().__init__(
            version=first.version,
            server_id=first.server_id,
            handles=handles,
            lengths=np.ones(len(handles), np.int64),
            at=np.zeros(len(handles), np.uint64),
            x=first.x[:size],
        )

    def request(self, number: int) -> sessions_pb2.StreamRequest:
        """Return the message of the sessions' next steps."""
        self.at = np.concatenate([rows.at[part] for rows, part in self.parts])
        for rows, part in self.parts:
            rows.at[part] += np.uint64(1)
        return super().request(number)
