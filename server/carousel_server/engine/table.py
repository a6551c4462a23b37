"""The session table of one model: columns with an entry a session.

A handle names an entry and its generation: the generation in the high 32 bits, the entry in the
low ones. Whoever attaches to a session, and whoever ends it, raises the generation; handles given
out before are stale from then on, also when another session has the entry. So a whole column of
handles is checked with one comparison, and no late message can reach a stranger's state.

Order is kept with tickets. Whatever is to happen to a session, a row or a control call, draws the
next ticket of its entry; it may happen when `head` has come to its ticket, and raises `head` when
it is over. Entry 0 is nobody's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.status import RowStatus

_ENTRY_MASK = np.uint64(0xFFFFFFFF)
_GENERATION_SHIFT = np.uint64(32)

IntColumn = NDArray[np.int64]


class SessionTable:
    """Columns of up to `capacity` sessions, indexed by entry."""

    def __init__(self, capacity: int) -> None:
        size = capacity + 1
        self.capacity = capacity
        # Generations begin at 1, so that no small number is ever a handle.
        self.generation = np.ones(size, np.uint32)
        self.alive = np.zeros(size, np.bool_)
        self.slot = np.zeros(size, np.int64)  # 0: no slot
        self.applied = np.zeros(size, np.int64)  # steps that the state has taken in
        self.head = np.zeros(size, np.int64)  # the ticket whose turn it is
        self.tail = np.zeros(size, np.int64)  # the next ticket to draw
        self.barrier = np.zeros(size, np.int64)  # tickets below it were queued behind a failure
        self.opened = np.zeros(size, np.float64)  # seconds since the epoch
        self.used = np.zeros(size, np.float64)  # seconds on the engine's clock
        # Why the last generation's handles are stale; before the first there was none.
        self.ended_as = np.full(size, RowStatus.NOT_FOUND, np.uint8)
        self.ids: list[str | None] = [None] * size
        self._free = np.arange(capacity, 0, -1, dtype=np.int64)
        self._top = capacity
        self._mark = np.zeros(size, np.int64)

    @property
    def open(self) -> int:
        """How many sessions are open."""
        return self.capacity - self._top

    @property
    def room(self) -> int:
        """How many more sessions can be opened."""
        return self._top

    def entries(self) -> IntColumn:
        """Return the entries of all open sessions."""
        return np.flatnonzero(self.alive)

    def add(self, ids: list[str], slots: IntColumn, *, opened: float, now: float) -> IntColumn:
        """Open sessions at step 0 in `slots`; return their entries. There must be `room`."""
        count = len(ids)
        if count > self._top:
            raise ValueError(f"{count} entries were asked for, {self._top} are free")
        self._top -= count
        entries = self._free[self._top : self._top + count][::-1].copy()
        self.alive[entries] = True
        self.slot[entries] = slots
        self.applied[entries] = 0
        self.barrier[entries] = 0
        self.opened[entries] = opened
        self.used[entries] = now
        for entry, name in zip(entries.tolist(), ids, strict=True):
            self.ids[entry] = name
        return entries

    def remove(self, entries: IntColumn, reason: RowStatus) -> IntColumn:
        """End sessions; their handles answer `reason` from now on. Return the slots they had."""
        slots = self.slot[entries]
        self.invalidate(entries, reason)
        self.slot[entries] = 0
        self.alive[entries] = False
        self._free[self._top : self._top + len(entries)] = entries[::-1]
        self._top += len(entries)
        for entry in entries.tolist():
            self.ids[entry] = None
        return slots

    def invalidate(self, entries: IntColumn, reason: RowStatus) -> None:
        """Make the handles given out so far stale."""
        self.generation[entries] += 1
        self.ended_as[entries] = reason

    def handles(self, entries: IntColumn) -> NDArray[np.uint64]:
        """Return the valid handles of entries."""
        high = self.generation[entries].astype(np.uint64) << _GENERATION_SHIFT
        return high | entries.astype(np.uint64)

    def resolve(self, handles: NDArray[np.uint64]) -> tuple[IntColumn, NDArray[np.uint8]]:
        """Return the entry of each handle, and the status of those that are not valid (0: valid).

        The entry of a handle that is not valid is 0.
        """
        entries = (handles & _ENTRY_MASK).astype(np.int64)
        known = (entries > 0) & (entries <= self.capacity)
        entries = np.where(known, entries, 0)
        given = handles >> _GENERATION_SHIFT
        current = self.generation[entries]
        if (known & (given == current) & self.alive[entries]).all():
            return entries, np.zeros(len(handles), np.uint8)
        status = self._why_invalid(entries, given.astype(np.int64), current.astype(np.int64))
        return np.where(status == 0, entries, 0), status

    def _why_invalid(
        self, entries: IntColumn, given: IntColumn, current: IntColumn
    ) -> NDArray[np.uint8]:
        valid = (entries > 0) & (given == current) & self.alive[entries]
        status = np.where(given < current, RowStatus.STALE_HANDLE, RowStatus.NOT_FOUND)
        # Only the newest of the ended generations is remembered with its reason.
        status = np.where(given == current - 1, self.ended_as[entries], status)
        status = np.where(entries == 0, RowStatus.NOT_FOUND, status)
        return np.where(valid, RowStatus.OK, status).astype(np.uint8)

    def draw(self, entries: IntColumn) -> IntColumn:
        """Draw a ticket for each entry; an entry that stands there twice draws two, in order."""
        tickets = self.tail[entries]
        if self.first_places(entries) is None:
            self.tail[entries] += 1
        else:
            tickets += _occurrences(entries)
            np.add.at(self.tail, entries, 1)
        return tickets

    def first_places(self, entries: IntColumn) -> NDArray[np.bool_] | None:
        """Return which places hold the first occurrence of their entry; None where all do."""
        count = len(entries)
        if count < 2:
            return None
        places = np.arange(count)
        # Of several writes to one place numpy keeps the last, so written backwards the first.
        self._mark[entries[::-1]] = places[::-1]
        first: NDArray[np.bool_] = self._mark[entries] == places
        return None if first.all() else first

    def finish(self, entries: IntColumn) -> None:
        """Let the next ticket of each entry have its turn; each entry at most once."""
        self.head[entries] += 1

    def fail(self, entries: IntColumn) -> None:
        """Fail the rows that are queued at entries now; each entry at most once."""
        self.barrier[entries] = self.tail[entries]


def _occurrences(values: IntColumn) -> IntColumn:
    """Return how often each value stood there before: [7, 8, 7] -> [0, 0, 1]."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, len(values)])
    result = np.empty(len(values), np.int64)
    result[order] = np.arange(len(values)) - np.repeat(starts, counts)
    return result
