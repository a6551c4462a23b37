"""The protocol of one stream, without any input or output: blocks and answers in, messages out.

Not thread-safe: the shells around it see to that. Time is passed in, in seconds.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._block import Barrier, Block, Roster, Waiting, nobody
from carousel_client._columns import Ints
from carousel_client._errors import Busy, CarouselError, ResourceExhausted, ServerError
from carousel_client._joining import head, split
from carousel_client._models import Limits
from carousel_client._outcomes import fail_rows, lose, reattach
from carousel_client._packing import Draft, Load, request, room, same_message, too_large
from carousel_client._sent import Sent

_log = logging.getLogger("carousel_client")

#: Wait before sending a busy row again where the server doesn't say how long, in seconds.
BUSY_WAIT = 0.01


class Exchange:
    """Everything that waits for one server, and everything on its way to it.

    `patience` is for how many seconds a busy row is sent again before it fails.
    """

    def __init__(
        self, limits: Limits, server_id: int, *, max_message_bytes: int, patience: float
    ) -> None:
        self.server_id = server_id
        self.online = False
        self._max_message_bytes = max_message_bytes
        self._patience = patience
        self._room = room(limits, max_message_bytes)
        self._numbers = count(1)
        self._sent: dict[int, Sent] = {}
        self._active: set[Roster] = set()
        self._ready: dict[tuple[str, str, float | None], deque[Roster]] = {}
        self._asleep: list[tuple[float, int, Roster]] = []
        self._woken: list[Callable[[], None]] = []
        self._load: dict[str, Load] = {}  # what is on its way, by model

    @property
    def busy(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._active)

    def submit(self, block: Waiting) -> None:
        """Queue a block behind its roster's others."""
        roster = block.roster
        roster.blocks.append(block)
        self._active.add(roster)
        if isinstance(block, Block):
            for row, error in roster.gone.items():
                if block.lengths[row]:
                    lose(roster, row, error)
        self._advance(roster)

    def release(self, barrier: Waiting) -> None:
        """End a barrier, so that the blocks behind it go on."""
        if barrier in barrier.roster.blocks:
            barrier.roster.blocks.remove(barrier)
        self._advance(barrier.roster)

    def forget(self, waiting: Waiting, error: CarouselError) -> None:
        """End a barrier, or a block, whose caller waits no more."""
        if isinstance(waiting, Barrier):
            self.release(waiting)
        else:
            self.abandon(waiting, error)

    def abandon(self, block: Block, error: CarouselError) -> None:
        """Forget a block whose caller waits no more.

        Steps on their way still count; none is sent any more, nor those queued behind.
        """
        block.done = nobody
        if block.carrier is None and block in block.roster.blocks:
            block.abandoned = True
            fail_rows(block, block.idle(), error)
            self._advance(block.roster)

    def messages(self, now: float) -> list[pb.StreamRequest]:
        """Return what can be sent now, in order."""
        while self._asleep and self._asleep[0][0] <= now:
            self._queue(heapq.heappop(self._asleep)[2])
        if not self.online or not self._ready:
            return []
        ready, self._ready = self._ready, {}
        return [message for queue in ready.values() for message in self._pack(queue, now)]

    def wakeup(self) -> float | None:
        """Return when `messages` will have something again without an answer, or None."""
        return self._asleep[0][0] if self._asleep else None

    def woken(self) -> list[Callable[[], None]]:
        """Return, once, what wakes the callers whose blocks are complete since the last time."""
        woken, self._woken = self._woken, []
        return woken

    def receive(self, response: pb.StepResponse, now: float) -> None:
        """Take in an answer."""
        sent = self._sent.get(response.id)
        if sent is None:
            _log.debug("ignored an answer to request %d, which nobody waits for", response.id)
            return
        error = self._read(sent, response, now)
        if error is not None:
            self._refuse(sent, error, now)
        if error is not None or response.done:
            self._forget(response.id)
        for flight in sent.flights:
            self._advance(flight.block.roster)

    def disconnect(self) -> None:
        """Note that the stream is gone: what was on its way may have run, or not."""
        self.online = False
        for sent in self._sent.values():
            for flight in sent.flights:
                if flight.block.inflight.any():
                    flight.block.roster.uncertain = True
        self._sent.clear()
        self._load.clear()

    def connect(self, limits: Limits, server_id: int) -> None:
        """Note which server there is; messages flow once `online` is set."""
        self.server_id = server_id
        self._room = room(limits, self._max_message_bytes)
        for roster in list(self._active):
            self._advance(roster)

    def must_attach(self, roster: Roster) -> bool:
        """Whether a roster's handles or step counts can't be used as they are."""
        return roster.uncertain or roster.server_id != self.server_id

    def unattached(self) -> list[Roster]:
        """Return the rosters that wait for something and must be attached before."""
        return [roster for roster in self._active if self.must_attach(roster)]

    def attached(
        self, roster: Roster, server_id: int, rows: Sequence[tuple[int, int] | CarouselError]
    ) -> None:
        """Take in what attaching gave each row: handle and applied, or why it is lost."""
        reattach(roster, server_id, rows)
        self._advance(roster)

    def give_up(self, make: Callable[[], CarouselError]) -> None:
        """Fail everything that waits."""
        self.disconnect()
        for roster in list(self._active):
            for block in list(roster.blocks):
                if isinstance(block, Block):
                    block.inflight[:] = False
                    fail_rows(block, block.idle(), make())
                elif not block.entered:
                    roster.blocks.remove(block)
                    block.failure = make()
                    self._woken.append(block.done)
            self._advance(roster)

    def _pack(self, queue: deque[Roster], now: float) -> Iterator[pb.StreamRequest]:
        draft = Draft(self._room)
        while queue:
            roster = queue[0]
            block = self._next(roster, now)
            if block is None or not len(rows := block.idle()):
                queue.popleft().queued = False
                continue
            load = self._load.setdefault(roster.model.name, Load())
            taken = draft.take(block, rows, load)
            if taken == len(rows):
                queue.popleft().queued = False
            elif taken:
                continue
            elif draft.flights:
                yield self._send(draft, now)
                draft = Draft(self._room)
            elif load.rows:  # full of this client's own rows: their answers make room
                self._ready.setdefault(same_message(block), deque()).extend(queue)
                return
            else:
                fail_rows(block, rows, too_large(roster.model, self._room))
                self._advance(roster)
        if draft.flights:
            yield self._send(draft, now)

    def _next(self, roster: Roster, now: float) -> Block | None:
        """Return the block of which something may be sent, or None."""
        if self.must_attach(roster) or roster.not_before > now:
            return None
        block = head(roster, max_steps=self._room.chunk)
        return block if isinstance(block, Block) else None

    def _send(self, draft: Draft, now: float) -> pb.StreamRequest:
        number = next(self._numbers)
        self._sent[number] = Sent(draft.flights, draft.size)
        return request(number, draft.flights, now)

    def _forget(self, number: int) -> None:
        sent = self._sent.pop(number)
        load = self._load.get(sent.flights[0].block.roster.model.name)
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
        retry = now + (retry_after or BUSY_WAIT)
        block.busy_since = now if block.busy_since is None else block.busy_since
        late = block.deadline is not None and retry >= block.deadline
        if block.abandoned or late or retry - block.busy_since > self._patience:
            words = why or "the server's queue stayed full; send less, or give it more room"
            fail_rows(block, rows, Busy(words, retry_after=retry - now))
        elif block.roster.not_before < retry:
            block.roster.not_before = retry
            heapq.heappush(self._asleep, (retry, next(self._numbers), block.roster))

    def _refuse(self, sent: Sent, error: CarouselError, now: float) -> None:
        """Fail the rows of a message of which nothing ran, or send them again later."""
        for flight, rows in sent.unanswered():
            flight.block.inflight[rows] = False
            if isinstance(error, ResourceExhausted):
                self._busy(flight.block, rows, error.retry_after or 0, now, str(error))
            else:
                fail_rows(flight.block, rows, error)

    def _advance(self, roster: Roster) -> None:
        """Wake those whose blocks are complete, and queue the roster if more is to be sent."""
        for block in [b for b in roster.blocks if isinstance(b, Block) and b.open == 0]:
            roster.blocks.remove(block)
            self._finish(block)
        if not roster.blocks:
            self._active.discard(roster)
            return
        first = roster.blocks[0]
        if isinstance(first, Block):
            self._queue(roster)
        elif not first.entered:
            first.entered = True
            self._woken.append(first.done)

    def _finish(self, block: Block) -> None:
        if block.parts:
            split(block)
            self._woken.extend(part.done for part in block.parts)
        else:
            self._woken.append(block.done)

    def _queue(self, roster: Roster) -> None:
        first = roster.blocks[0] if roster.blocks else None
        if not roster.queued and isinstance(first, Block):
            roster.queued = True
            self._ready.setdefault(same_message(first), deque()).append(roster)
