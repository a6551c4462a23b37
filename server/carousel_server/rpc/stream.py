"""One stream: reads requests and writes answers at the same time, each in its own order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from carousel.v1 import sessions_pb2
from carousel_server.errors import Draining, InvalidRequest
from carousel_server.rpc.decoding import Undecodable
from carousel_server.rpc.steps import StepGate, failure
from carousel_server.spans import StepSpans

# A client that sends without reading is not read from beyond so many answers.
_MAX_UNREAD = 1024

Requests = AsyncIterator[sessions_pb2.StreamRequest | Undecodable]
Put = Callable[[sessions_pb2.StreamResponse], Awaitable[None]]


class StepStream:
    """One client's stream."""

    def __init__(
        self,
        gate: StepGate,
        requests: Requests,
        put: Put,
        number: int = 0,
        spans: StepSpans | None = None,
    ) -> None:
        self._number = number
        self._spans = spans
        self._gate = gate
        self._requests = requests
        self._put = put
        self._outbox: deque[sessions_pb2.StreamResponse] = deque()
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._unanswered = 0
        self._reader: asyncio.Task[None] | None = None
        # Whether the reader has taken a request in, and will write what is answered at once.
        self._taking = False
        self._writing = False
        self._reader_writes = False
        self._ended = False
        self._failed = False
        self._ended_here = False

    async def run(self) -> None:
        """Serve the stream until the client, or `end`, has ended it and every answer is out.

        Raises:
            Draining: it was ended from this side.
            Exception: the client can't be read from any more.

        """
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(self._note_end)
        try:
            await self._write()
        finally:
            self._reader.cancel()
        if not self._reader.cancelled():
            self._reader.result()
        if self._ended_here:
            raise Draining

    def end(self) -> None:
        """Read no more; answer what was read, and close."""
        self._ended_here = True
        # An answer that is on its way out would be lost; behind it the reader ends by itself.
        if self._reader and not self._reader_writes:
            self._reader.cancel()

    def notify(self, response: sessions_pb2.StreamResponse) -> None:
        """Put a message that answers nothing into the stream."""
        self._outbox.append(response)
        self._changed.set()

    async def _read(self) -> None:
        async for request in self._requests:
            self._taking = True
            self._take(request)
            if not self._outbox:
                # What came during this turn of the event loop is stepped together at its end; to
                # be there then costs less than to have another task woken.
                await asyncio.sleep(0)
            self._reader_writes = True
            await self._flush()
            self._reader_writes = self._taking = False
            if self._ended_here:
                return
            await self._drained.wait()

    def _note_end(self, reader: asyncio.Task[None]) -> None:
        self._taking = False
        self._ended = True
        self._failed = not reader.cancelled() and reader.exception() is not None
        self._changed.set()

    def _over(self) -> bool:
        """Whether every answer is out, or there is nobody to answer."""
        return self._failed or (self._ended and not self._unanswered and not self._outbox)

    def _take(self, request: sessions_pb2.StreamRequest | Undecodable) -> None:
        if isinstance(request, Undecodable):
            self.notify(failure(0, InvalidRequest(request.why)))
        elif request.WhichOneof("body") == "step":
            self._unanswered += 1
            self._gate.submit(request.step, self._send, stream=self._number, spans=self._spans)
        else:
            self.notify(failure(0, InvalidRequest("the message has no body; a step was expected")))

    def _send(self, response: sessions_pb2.StreamResponse) -> None:
        self._unanswered -= response.step.done
        self._outbox.append(response)
        if len(self._outbox) > _MAX_UNREAD:
            self._drained.clear()
        if not self._taking:
            self._changed.set()

    async def _write(self) -> None:
        while not self._over():
            await self._changed.wait()
            self._changed.clear()
            await self._flush()

    async def _flush(self) -> None:
        """Write what is in the outbox; gRPC takes one message at a time, so one task does."""
        if self._writing:
            return
        self._writing = True
        try:
            while self._outbox:
                await self._put(self._outbox.popleft())
        finally:
            self._writing = False
        self._drained.set()


class OpenStreams:
    """The streams that are open, for notices to all of them."""

    def __init__(self) -> None:
        self._streams: set[StepStream] = set()
        self._count = 0

    def __len__(self) -> int:
        return len(self._streams)

    def number(self) -> int:
        """Return a number for one more stream, or for a call that is like one."""
        self._count += 1
        return self._count

    async def run(self, stream: StepStream) -> None:
        """Serve a stream, and know of it meanwhile."""
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)

    def notify(self, make: Callable[[], sessions_pb2.StreamResponse]) -> None:
        """Put a message into every stream."""
        for stream in self._streams:
            stream.notify(make())

    def end(self) -> None:
        """End every stream from this side."""
        for stream in self._streams:
            stream.end()
