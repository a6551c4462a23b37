"""The protocol of all of a client's streams, without any input or output.

Blocks and answers go in, messages come out. Not thread-safe: the shells around it see to that. Time
is passed in, in seconds.
"""

from __future__ import annotations

import copy
import heapq
import logging
from collections.abc import Callable

import numpy as np

from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._block import Barrier, Block, Roster
from carousel_client._columns import Ints
from carousel_client._errors import (
    Busy,
    CarouselError,
    ResourceExhausted,
    ServerError,
    Unavailable,
)
from carousel_client._failover import Failover, FailoverEvent
from carousel_client._hosts import Host
from carousel_client._lines import Lines
from carousel_client._models import ServerInfo
from carousel_client._outcomes import cancel, fail_rows
from carousel_client._packing import room
from carousel_client._sent import Sent

_log = logging.getLogger("carousel_client")

#: Wait before sending a busy row again where the server doesn't say how long, in seconds.
BUSY_WAIT = 0.01


class Exchange(Lines):
    """Everything that waits for a server, and everything on its way to one.

    `patience` is for how many seconds a busy row is sent again before it fails, `replay_bytes` how
    many bytes of inputs are held to be sent again.
    """

    def __init__(
        self, *, max_message_bytes: int, patience: float, replay_bytes: int = 2**62
    ) -> None:
        super().__init__(replay_bytes=replay_bytes)
        #: How many answers that say something came so far.
        self.heard = 0
        #: Sessions on their way from one server to another, if there are any.
        self.failover: Failover | None = None
        self._events: list[FailoverEvent] = []
        self._max_message_bytes = max_message_bytes
        self._patience = patience

    def meet(self, address: str, info: ServerInfo) -> Host:
        """Note which server answered at an address, and return its host."""
        found = None
        for host in self.hosts.values():
            if host.info.server_id == info.server_id:
                found = host
            elif host.address == address and not host.gone:
                _log.warning("%s is another server than before", address)
                host.gone = True
                self.disconnect(host)  # whatever its stream still says comes from somebody else
        if found is None:
            number = len(self.hosts)
            found = Host(number, address, info, room(info.limits, self._max_message_bytes))
            self.hosts[number] = found
        if found.poor or not found.online:
            found.address = address
        found.info, found.room = info, room(info.limits, self._max_message_bytes)
        found.draining = info.draining or found.leaving
        found.doubted = found.gone = False
        for roster in list(self.active):
            self.advance(roster)
        return found

    def receive(self, host: Host, response: pb.StepResponse, now: float) -> None:
        """Take in an answer."""
        sent = host.sent.get(response.id)
        if sent is None:
            _log.debug("ignored an answer to request %d, which nobody waits for", response.id)
            return
        error = self._read(sent, response, now)
        self.heard += error is None
        if error is not None:
            self._refuse(host, sent, error, now)
        if error is not None or response.done:
            self._forget(host, response.id)
        for flight in sent.flights:
            roster = flight.block.roster
            if error is None:
                roster.away_since = None
            self.advance(roster)
        if self.failover is not None:
            self.calm(now)

    def disconnect(self, host: Host) -> None:
        """Note that a host's stream is gone: what was on its way may have run, or not."""
        host.online, host.doubted = False, True
        for sent in host.sent.values():
            for flight, rows in sent.unanswered():
                flight.block.roster.unsettle(rows)
        host.sent.clear()
        host.load.clear()
        for roster in list(self.active):
            self.advance(roster)

    def drain(self, host: Host) -> None:
        """Note that a host takes no more: sessions that outlive it go elsewhere."""
        host.draining = host.leaving = True
        for roster in list(self.active):
            self.advance(roster)

    def fail(self, roster: Roster, rows: Ints, make: Callable[[], CarouselError]) -> None:
        """Fail what waits for rows (n,) of a roster."""
        for block in list(roster.blocks):
            if isinstance(block, Block):
                if block.replay:
                    continue
                block.inflight[rows] = False
                fail_rows(block, rows[block.answered[rows] < block.lengths[rows]], make())
            elif not block.entered:
                roster.blocks.remove(block)
                block.failure = make()
                self._woken.append(block.done)
        self.advance(roster)

    def quit(self, roster: Roster, rows: Ints, make: Callable[[], CarouselError]) -> None:
        """Fail what waits for rows (n,) of a roster, and leave off what is sent again of them."""
        rows = rows[[row not in roster.gone for row in rows.tolist()]]
        if roster.keep is not None:
            behind = rows[roster.applied[rows] < roster.keep.target[rows]]
            cancel(roster, behind)
            roster.unsettle(behind)
        self.fail(roster, rows, make)

    def give_up(self, make: Callable[[], CarouselError]) -> None:
        """Fail everything that waits."""
        for host in self.hosts.values():
            if host.online:
                self.disconnect(host)
        for roster in list(self.active):
            self.quit(roster, np.arange(len(roster.ids)), make)

    def replay(self, roster: Roster, blocks: list[Block]) -> None:
        """Send blocks before anything else of a roster."""
        roster.blocks.extendleft(reversed(blocks))
        self._replaying += len(blocks)
        for block in roster.blocks:
            if isinstance(block, Barrier):
                block.entered = False

    def calm(self, now: float) -> None:
        """Note the end of a failover once every session is at a server, and where it was."""
        if self.failover is not None and not self._replaying and not self.astray:
            self._events.append(self.failover.event(now))
            self.failover = None

    def events(self) -> list[FailoverEvent]:
        """Return, once, the failovers that ended since the last time."""
        events, self._events = self._events, []
        return events

    def _forget(self, host: Host, number: int) -> None:
        sent = host.sent.pop(number)
        load = host.load.get(sent.flights[0].block.roster.model.name)
        if load is not None:
            load.rows -= len(sent.asked)
            load.size -= sent.size

    def _read(self, sent: Sent, response: pb.StepResponse, now: float) -> CarouselError | None:
        """Take in what an answer says of its rows, or return what befalls those unanswered."""
        if response.HasField("error"):
            return faults.from_status(response.error, subject="model")
        try:
            for block, rows in sent.take(response):
                self._busy(block, rows, response.retry_after_ms / 1000, now)
        except ServerError as unreadable:
            return unreadable
        if response.done and sent.waiting.any():
            return ServerError("the server left rows of a request unanswered", code="INTERNAL")
        return None

    def _busy(
        self, block: Block, rows: Ints, retry_after: float, now: float, why: str = ""
    ) -> None:
        """Send rows (n,) that found no room again later, unless that went on for too long."""
        roster, retry = block.roster, now + (retry_after or BUSY_WAIT)
        block.busy_since = now if block.busy_since is None else block.busy_since
        late = block.deadline is not None and retry >= block.deadline
        if block.abandoned or late or retry - block.busy_since > self._patience:
            words = why or "the server's queue stayed full; send less, or give it more room"
            error = Busy(words, retry_after=retry - now)
            if not block.replay:
                fail_rows(block, rows, error)
                return
            self.fail(roster, rows, lambda: copy.copy(error))  # but go on with what must be first
        if roster.not_before < retry:
            roster.not_before = retry
            heapq.heappush(self._asleep, (retry, next(self._numbers), roster))

    def _refuse(self, host: Host, sent: Sent, error: CarouselError, now: float) -> None:
        """Fail the rows of a message of which nothing ran, or send them again later."""
        for flight, rows in sent.unanswered():
            block = flight.block
            block.inflight[rows] = False
            if isinstance(error, ResourceExhausted):
                self._busy(block, rows, error.retry_after or 0, now, str(error))
            elif isinstance(error, Unavailable) and block.roster.keep is not None:
                host.draining = True  # what else makes a server that answers unavailable?
                if block.abandoned:
                    fail_rows(block, rows, error)
            else:
                fail_rows(block, rows, error)
