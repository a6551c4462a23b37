"""Blocks that rows of states travel in, between the pool and the host."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

from carousel_server.runtime.ondevice.exchange import Exchange
from carousel_server.runtime.ondevice.memory import Bytes, Memory, Stream
from carousel_server.runtime.session import RUNTIME_ERRORS

# Of one size, so many are kept for the next time; what is beyond that was needed once.
_MOST_IDLE = 4
# So many writes of one size are on their way at most; whoever writes more waits for the first.
_MOST_UNDER_WAY = 4


class RowBuffer:
    """A place on both sides for `count` rows, and the run that fills or empties it."""

    def __init__(self, exchange: Exchange, memory: Memory, count: int) -> None:
        self.count = count
        self._exchange, self._memory = exchange, memory
        self._inbox: Bytes = memory.staging(exchange.inputs.nbytes)
        #: The run's inputs, by name, to be filled before it is queued.
        self.inputs: dict[str, Any] = exchange.inputs.views(self._inbox)
        self._ready, self._done = memory.event(), memory.event()

    @cached_property
    def _outbox(self) -> Bytes:
        return self._memory.staging(self._exchange.outputs.nbytes)

    @cached_property
    def rows(self) -> dict[str, Any]:
        """What was fetched, by name; it stays till the next time."""
        return self._exchange.outputs.views(self._outbox)

    @property
    def done(self) -> bool:
        """Whether what was queued last is done."""
        return self._memory.passed(self._done)

    def wait(self) -> None:
        """Return when what was queued last is done."""
        self._memory.wait(self._done)

    def gather(self) -> None:
        """Queue a run that puts rows here, on the device."""
        memory = self._memory
        memory.upload(self._inbox, self._exchange.there, Stream.COMPUTE)
        self._exchange.launch()
        memory.record(self._ready, Stream.COMPUTE)
        memory.record(self._done, Stream.COMPUTE)

    def fetch(self) -> None:
        """Queue a copy to the host of what was gathered; nothing waits for it but `wait`."""
        memory = self._memory
        memory.hold(Stream.ASIDE, self._ready)
        memory.download(self._exchange.back, self._outbox, Stream.ASIDE)
        memory.record(self._done, Stream.ASIDE)

    def scatter(self) -> None:
        """Queue a run that takes rows, and where they belong, from here."""
        memory = self._memory
        memory.upload(self._inbox, self._exchange.there, Stream.INWARD)
        memory.record(self._ready, Stream.INWARD)
        memory.hold(Stream.COMPUTE, self._ready)
        self._exchange.launch()
        memory.record(self._done, Stream.COMPUTE)


class RowBuffers:
    """Buffers of some sizes, kept for the next time. Who calls `take` is inside the gate.

    `give` may come from any thread.
    """

    def __init__(self, make: Callable[[int], RowBuffer]) -> None:
        self._make = make
        self._given: deque[RowBuffer] = deque()
        self._idle: dict[int, deque[RowBuffer]] = {}

    def take(self, count: int) -> RowBuffer:
        """Return a buffer for `count` rows that nothing is queued for any more."""
        self._sort()
        idle = self._idle.setdefault(count, deque())
        if idle and idle[0].done:
            return idle.popleft()
        if len(idle) >= _MOST_UNDER_WAY:
            idle[0].wait()
            return idle.popleft()
        try:
            return self._make(count)
        except RUNTIME_ERRORS:
            if not idle:
                raise
            idle[0].wait()  # there is no room for another one: the next that is free will do
            return idle.popleft()

    def give(self, buffer: RowBuffer) -> None:
        """Take a buffer back; what was queued for it may be on its way still."""
        self._given.append(buffer)

    def _sort(self) -> None:
        while self._given:
            buffer = self._given.popleft()
            idle = self._idle.setdefault(buffer.count, deque())
            # One that is let go must not be freed while the device is at it.
            if len(idle) < _MOST_IDLE or not buffer.done:
                idle.append(buffer)
