"""A client of plain stubs: sends exactly what a test says, right or wrong."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import numpy as np

from carousel import wire
from carousel.v1 import sessions_pb2, sessions_pb2_grpc, tensor_pb2

_SECONDS = 20


@dataclass
class Opened:
    """Sessions that a server opened or attached."""

    model: str
    version: str
    server_id: int
    ids: list[str]
    handles: np.ndarray  # (N,) uint64
    applied: np.ndarray  # (N,)


class RawClient:
    """Stubs of one channel, and the messages most tests need."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.stub = sessions_pb2_grpc.SessionServiceStub(channel)

    def open(self, model: str, count: int = 1, *, ids: Sequence[str] = (), **more) -> Opened:
        """Open sessions."""
        answer = self.stub.Open(
            sessions_pb2.OpenRequest(model=model, ids=ids, count=0 if ids else count, **more),
            timeout=_SECONDS,
        )
        handles = np.frombuffer(answer.handles, wire.HANDLE_DTYPE)
        return Opened(
            answer.model,
            answer.version,
            answer.server_id,
            list(answer.ids),
            handles,
            np.zeros(len(handles), np.uint64),
        )

    def attach(self, model: str, ids: Sequence[str]) -> Opened:
        """Attach to sessions."""
        answer = self.stub.Attach(
            sessions_pb2.AttachRequest(model=model, ids=ids), timeout=_SECONDS
        )
        return Opened(
            answer.model,
            answer.version,
            answer.server_id,
            list(ids),
            np.frombuffer(answer.handles, wire.HANDLE_DTYPE),
            np.frombuffer(answer.applied, wire.STEP_COUNT_DTYPE),
        )

    def step(self, request: sessions_pb2.StepRequest) -> sessions_pb2.StepResponse:
        """Step once, without a stream."""
        return self.stub.Step(request, timeout=_SECONDS)

    def close(self, opened: Opened) -> bytes:
        """Close sessions; return the status column."""
        return self.stub.Close(_by_handle(sessions_pb2.CloseRequest, opened)).status

    def reset(self, opened: Opened) -> bytes:
        """Reset sessions; return the status column."""
        return self.stub.Reset(_by_handle(sessions_pb2.ResetRequest, opened)).status

    def stream(self) -> RawStream:
        """Open a stream."""
        return RawStream(self.stub)


class RawStream:
    """One stream; `ask` sends a message and waits for its whole answer."""

    def __init__(self, stub: sessions_pb2_grpc.SessionServiceStub) -> None:
        self._requests: queue.Queue[sessions_pb2.StreamRequest | None] = queue.Queue()
        self._call = stub.Stream(iter(self._requests.get, None), timeout=120)

    def send(self, request: sessions_pb2.StepRequest) -> None:
        """Send a message."""
        self._requests.put(sessions_pb2.StreamRequest(step=request))

    def receive(self) -> sessions_pb2.StreamResponse:
        """Return the next message from the server."""
        return next(self._call)

    def ask(self, request: sessions_pb2.StepRequest) -> list[sessions_pb2.StepResponse]:
        """Send a message and return its answers, of which there may be several."""
        self.send(request)
        parts = []
        while not parts or not parts[-1].done:
            response = self.receive()
            assert response.step.id == request.id, response
            parts.append(response.step)
        return parts

    def one(self, request: sessions_pb2.StepRequest) -> sessions_pb2.StepResponse:
        """Send a message and return its only answer."""
        (part,) = self.ask(request)
        return part

    def end(self) -> None:
        """End the stream from this side, and read what is left."""
        self._requests.put(None)
        for _ in self._call:
            pass


@contextmanager
def connect(
    address: str, credentials: grpc.ChannelCredentials | None = None
) -> Iterator[RawClient]:
    """Connect with stubs; with TLS if there are credentials."""
    options = [
        ("grpc.max_receive_message_length", wire.DEFAULT_MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", wire.DEFAULT_MAX_MESSAGE_BYTES),
    ]
    if credentials is None:
        channel = grpc.insecure_channel(address, options=options)
    else:
        # Channels that are alike would share a connection, and with it the certificate it showed.
        options.append(("grpc.use_local_subchannel_pool", 1))
        channel = grpc.secure_channel(address, credentials, options=options)
    with channel:
        yield RawClient(channel)


def tensor(name: str, value: np.ndarray) -> tensor_pb2.Tensor:
    """Return an array as it travels."""
    dtype = value.dtype.newbyteorder("<")
    return tensor_pb2.Tensor(
        name=name,
        dtype=wire.DATA_TYPES[dtype.str],
        shape=value.shape,
        data=value.astype(dtype).tobytes(),
    )


def step_request(
    opened: Opened,
    x: np.ndarray,
    *,
    rows: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    first_step: Sequence[int] | None = None,
    request_id: int = 1,
    **fields,
) -> sessions_pb2.StepRequest:
    """Return a message for some of the opened sessions; `x` is all rows' steps end to end."""
    handles = opened.handles if rows is None else opened.handles[list(rows)]
    message = {
        "id": request_id,
        "model": opened.model,
        "version": opened.version,
        "server_id": opened.server_id,
        "handles": handles.astype(wire.HANDLE_DTYPE).tobytes(),
        "inputs": [tensor("x", np.asarray(x, np.float32))],
    }
    if lengths is not None:
        message["lengths"] = np.array(lengths, wire.LENGTH_DTYPE).tobytes()
    if first_step is not None:
        message["first_step"] = np.array(first_step, wire.STEP_COUNT_DTYPE).tobytes()
    return sessions_pb2.StepRequest(**{**message, **fields})


def output(answer: sessions_pb2.StepResponse, name: str = "y") -> np.ndarray:
    """Return an output of an answer, steps first."""
    for found in answer.outputs:
        if found.name == name:
            values = np.frombuffer(found.data, wire.NUMPY_DTYPES[found.dtype])
            return values.reshape(tuple(found.shape))
    raise AssertionError(f"no output {name!r} in {answer}")


def statuses(answer: sessions_pb2.StepResponse) -> list[str]:
    """Return the statuses of an answer's rows by name, without the prefix."""
    count = len(answer.applied) // 8
    codes = answer.status or bytes(count)
    return [sessions_pb2.RowStatus.Name(code).removeprefix("ROW_STATUS_") for code in codes]


def applied(answer: sessions_pb2.StepResponse) -> list[int]:
    """Return the `applied` column."""
    return np.frombuffer(answer.applied, wire.STEP_COUNT_DTYPE).tolist()


def _by_handle(kind, opened: Opened):
    return kind(
        model=opened.model,
        version=opened.version,
        server_id=opened.server_id,
        handles=opened.handles.tobytes(),
    )
