"""What waits to be sent: sessions in their order, and the queues of servers.

Not thread-safe: the shells around it see to that. Time is passed in, in seconds.
"""

from __future__ import annotations

import heapq
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np

from carousel.v1 import sessions_pb2 as pb
from carousel_client._block import (
    ADRIFT,
    FIRST_ROW,
    NO_ROWS,
    Barrier,
    Block,
    Roster,
    Waiting,
    nobody,
)
from carousel_client._columns import Ints
from carousel_client._errors import CarouselError
from carousel_client._hosts import Host
from carousel_client._joining import head, split
from carousel_client._outcomes import fail_rows, lose
from carousel_client._packing import Draft, Load, request, same_message, too_large
from carousel_client._replay import Ledger
from carousel_client._sent import Sent


class Lines:
    """Everything that waits to be sent, and who is to be woken.

    `replay_bytes` is how many bytes of inputs are held to be sent again.
    """

    def __init__(self, *, replay_bytes: int) -> None:
        self.hosts: dict[int, Host] = {}
        self.ledger = Ledger(replay_bytes)
        self.active: set[Roster] = set()
        #: Rosters that hold inputs, as long as their users do.
        self.kept: weakref.WeakSet[Roster] = weakref.WeakSet()
        #: Rosters of which something waits for a home: see `strays`.
        self.astray: set[Roster] = set()
        self._numbers = count(1)
        self._asleep: list[tuple[float, int, Roster]] = []
        self._woken: list[Callable[[], None]] = []
        self._replaying = 0  # blocks that are sent again

    @property
    def busy(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self.active)

    def submit(self, block: Waiting) -> None:
        """Queue a block behind its roster's others. Raises ReplayFull."""
        roster = block.roster
        if isinstance(block, Block) and roster.keep is not None:
            self._own(block)
        roster.blocks.append(block)
        self.active.add(roster)
        if isinstance(block, Block):
            for row, error in roster.gone.items():
                if block.lengths[row]:
                    lose(roster, row, error)
        self.advance(roster)

    def release(self, barrier: Waiting) -> None:
        """End a barrier, so that the blocks behind it go on."""
        if barrier in barrier.roster.blocks:
            barrier.roster.blocks.remove(barrier)
        self.advance(barrier.roster)

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
            self.advance(block.roster)

    def messages(self, now: float) -> list[tuple[Host, pb.StreamRequest]]:
        """Return what can be sent now, in order, and where to."""
        while self._asleep and self._asleep[0][0] <= now:
            self._queue(heapq.heappop(self._asleep)[2])
        found = []
        for host in self.hosts.values():
            if host.ready and host.online:
                ready, host.ready = host.ready, {}
                for queue in ready.values():
                    found += [(host, message) for message in self._pack(host, queue, now)]
        return found

    def dark(self) -> list[Host]:
        """Return the hosts to which a stream must be opened before `messages` says more."""
        return [
            host for host in self.hosts.values() if host.ready and not host.online and not host.poor
        ]

    def wakeup(self) -> float | None:
        """Return when `messages` will have something again without an answer, or None."""
        return self._asleep[0][0] if self._asleep else None

    def woken(self) -> list[Callable[[], None]]:
        """Return, once, what wakes the callers whose blocks are complete since the last time."""
        woken, self._woken = self._woken, []
        return woken

    def strays(self, roster: Roster) -> Ints:
        """Return the rows (n,) of a roster that must find a home before anything is sent."""
        host = roster.host
        if host is not None and not self._useless(host, roster):
            return NO_ROWS
        if len(roster.ids) == 1:  # most rosters: thousands may look at once
            waits = host is not None and host.online and roster.flying()[0]
            return NO_ROWS if roster.gone or waits else FIRST_ROW
        stray = roster.at == ADRIFT
        for number in np.unique(roster.at[~stray]).tolist():
            host = self.hosts[number]
            if self._useless(host, roster):
                here = roster.at == number
                # What is on its way over a stream that is open is about to be answered.
                stray |= here & ~roster.flying() if host.online else here
        if roster.gone:
            stray[list(roster.gone)] = False
        return np.flatnonzero(stray)

    def _useless(self, host: Host, roster: Roster) -> bool:
        """Whether a roster's sessions can't be stepped at a host, or not before it was asked."""
        return host.poor or (host.draining and roster.keep is not None)

    def advance(self, roster: Roster) -> None:
        """Wake those whose blocks are complete, and queue the roster if more is to be sent."""
        blocks = roster.blocks
        only = blocks[0] if len(blocks) == 1 else None  # mostly there is one: worth a microsecond
        if isinstance(only, Block):
            if only.open == 0:
                blocks.clear()
                self._finish(only)
        else:
            for block in [b for b in blocks if isinstance(b, Block) and b.open == 0]:
                blocks.remove(block)
                self._finish(block)
        if not blocks:
            self.active.discard(roster)
            self.astray.discard(roster)
            roster.away_since = None
            return
        host = roster.host
        if host is None or host.poor or host.draining:
            self._look_after(roster)
        elif self.astray:
            self.astray.discard(roster)
        first = blocks[0]
        if isinstance(first, Block):
            self._queue(roster)
        elif not first.entered and roster not in self.astray:
            first.entered = True
            self._woken.append(first.done)

    def _look_after(self, roster: Roster) -> None:
        if len(self.strays(roster)):
            self.astray.add(roster)
        else:
            self.astray.discard(roster)

    def _own(self, block: Block) -> None:
        """Make a block's inputs the client's own, who may have to send them again."""
        roster = block.roster
        assert roster.keep is not None
        size = sum([array.nbytes for array in block.inputs.values()])
        self.ledger.add(size, roster.keep, roster.applied)
        block.inputs = {name: array.copy() for name, array in block.inputs.items()}

    def _finish(self, block: Block) -> None:
        keep = block.roster.keep
        if keep is not None and not block.replay:
            keep.settled(block)
        self._replaying -= block.replay
        if block.parts:
            split(block)
            self._woken.extend(part.done for part in block.parts)
        else:
            self._woken.append(block.done)

    def _queue(self, roster: Roster) -> None:
        first = roster.blocks[0] if roster.blocks else None
        if not isinstance(first, Block):
            return
        if roster.host is not None:
            self._queue_at(roster.host, roster, first)
            return
        for number in np.unique(roster.at[roster.at != ADRIFT]).tolist():
            self._queue_at(self.hosts[number], roster, first)

    def _queue_at(self, host: Host, roster: Roster, first: Block) -> None:
        if host.number not in roster.queued:
            roster.queued.add(host.number)
            host.ready.setdefault(same_message(first), deque()).append(roster)

    def _pack(self, host: Host, queue: deque[Roster], now: float) -> Iterator[pb.StreamRequest]:
        draft = Draft(host.room)
        while queue:
            roster = queue[0]
            block, rows = self._next(host, roster, now)
            if block is None or not len(rows):
                queue.popleft().queued.discard(host.number)
                continue
            load = host.load.setdefault(roster.model.name, Load())
            taken = draft.take(block, rows, load)
            if taken == len(rows):
                queue.popleft().queued.discard(host.number)
            elif taken:
                continue
            elif draft.flights:
                yield self._send(host, draft, now)
                draft = Draft(host.room)
            elif load.rows:  # full of this client's own rows: their answers make room
                host.ready.setdefault(same_message(block), deque()).extend(queue)
                return
            else:
                fail_rows(block, rows, too_large(roster.model, host.room))
                self.advance(roster)
        if draft.flights:
            yield self._send(host, draft, now)

    def _next(self, host: Host, roster: Roster, now: float) -> tuple[Block | None, Ints]:
        """Return the block of which something may be sent to a host, if any, and which rows."""
        if roster.not_before > now or self._useless(host, roster):
            return None, NO_ROWS
        block = head(roster, max_steps=host.room.chunk)
        if not isinstance(block, Block):
            return None, NO_ROWS
        rows = block.idle()
        if roster.host is not host:
            rows = rows[roster.at[rows] == host.number]
        return block, rows

    def _send(self, host: Host, draft: Draft, now: float) -> pb.StreamRequest:
        number = next(self._numbers)
        host.sent[number] = Sent(draft.flights, draft.size)
        return request(number, host.info.server_id, draft.flights, now)
