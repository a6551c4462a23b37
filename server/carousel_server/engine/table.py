"""The session table of one model: columns with an entry a session.

A handle names an entry and its generation: the generation in the high 32 bits, the entry in the
low ones. Whoever attaches to a session, and whoever ends it, raises the generation; handles given
out before are stale from then on, also when another session has the entry. So a whole column of
handles is checked with one comparison, and no late message can reach a stranger's state. The first
generations of engines lie far apart, so that a handle given for one version of a model is not by
chance valid at another.

Order is kept with tickets. Whatever is to happen to a session, a row or a control call, draws the
next ticket of its entry; it may happen when `head` has come to its ticket, and raises `head` when
it is over. Entry 0 is nobody's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.columns import IntColumn, occurrences
from carousel_server.engine.status import RowStatus

_ENTRY_MASK = np.uint64(0xFFFFFFFF)
_GENERATION_SHIFT = np.uint64(32)
# Stands where an entry has no session. Its entry is 0, so no handle that names another equals it.
_NO_HANDLE = np.uint64(0)
# Stands at entry 0, for the same reason: it names entry 1.
_NOBODY = np.uint64(1)


class SessionTable:
    """Columns of up to `capacity` sessions, indexed by entry.

    The columns are zeros until an entry is first used, so that a large table that is hardly used
    costs hardly any memory: the system gives pages when they are written.
    """

    def __init__(self, capacity: int, number: int = 0) -> None:
        """Make room for `capacity` sessions of the engine of that number."""
        size = capacity + 1
        self.capacity = capacity
        self.now = 0.0  # seconds on the engine's clock, as of this turn
        self.epoch = 0  # raised whenever a handle becomes invalid
        self.failed = False  # whether rows may be queued behind a failed one
        self.slot = np.zeros(size, np.int64)  # its row of the pool; 0: none
        self.parked = np.zeros(size, np.int64)  # its row of the parking lot; 0: none
        self.applied = np.zeros(size, np.int64)  # steps that the state has taken in
        self.durable = np.zeros(size, np.int64)  # of them, those that a kept checkpoint covers
        self.head = np.zeros(size, np.int64)  # the ticket whose turn it is
        self.tail = np.zeros(size, np.int64)  # the next ticket to draw
        self.barrier = np.zeros(size, np.int64)  # tickets below it were queued behind a failure
        self.opened = np.zeros(size, np.float64)  # seconds since the epoch
        self.used = np.zeros(size, np.float64)  # when it last did something, on the engine's clock
        self.ids: list[str | None] = [None]  # of entries that were ever used
        self.open = 0  # how many sessions are open
        self._handle = np.zeros(size, np.uint64)  # the valid one, or _NO_HANDLE
        self._handle[0] = _NOBODY
        # The number's bits in reverse: the first numbers come to lie as far apart as can be.
        self._first = np.array([int(f"{number % 2**32:032b}"[::-1], 2)], np.uint32)
        self._ends = np.zeros(size, np.uint32)  # how many generations have ended
        self._ended_as = np.zeros(size, np.uint8)  # why the last of them did
        self._free: list[int] = []
        self._mark = np.zeros(size, np.int64)

    @property
    def room(self) -> int:
        """How many more sessions can be opened."""
        return self.capacity - self.open

    def entries(self) -> IntColumn:
        """Return the entries of all open sessions."""
        return np.flatnonzero(self._handle[1 : len(self.ids)]) + 1

    def idle(self, entries: IntColumn, seconds: float) -> IntColumn:
        """Return those of the entries that did nothing for so long, and have nothing queued."""
        quiet = self.head[entries] == self.tail[entries]
        found: IntColumn = entries[quiet & (self.now - self.used[entries] >= seconds)]
        return found

    def add(self, ids: list[str], *, opened: float, now: float) -> IntColumn:
        """Open sessions at step 0; return their entries. There must be `room`."""
        entries = self._take(len(ids))
        self._handle[entries] = self._current(entries)
        self.applied[entries] = 0
        self.barrier[entries] = 0
        self.opened[entries] = opened
        self.used[entries] = now
        for entry, name in zip(entries.tolist(), ids, strict=True):
            self.ids[entry] = name
        self.open += len(ids)
        return entries

    def remove(self, entries: IntColumn, reason: RowStatus) -> None:
        """End sessions; their handles answer `reason` from now on."""
        self.invalidate(entries, reason)
        self._handle[entries] = _NO_HANDLE
        gone = entries.tolist()
        for entry in gone:
            self.ids[entry] = None
        self.open -= len(gone)
        self._free.extend(reversed(gone))

    def invalidate(self, entries: IntColumn, reason: RowStatus) -> None:
        """Make the handles given out so far stale."""
        self._ends[entries] += 1
        self._ended_as[entries] = reason
        self._handle[entries] = self._current(entries)
        self.epoch += 1

    def is_open(self, entries: IntColumn) -> NDArray[np.bool_]:
        """Return which entries have a session."""
        there: NDArray[np.bool_] = self._handle[entries] != _NO_HANDLE
        return there

    def handles(self, entries: IntColumn) -> NDArray[np.uint64]:
        """Return the valid handles of entries."""
        return self._handle[entries]

    def entry_of(self, handle: int) -> int:
        """Return the entry of one handle; 0 where it is not valid."""
        entry = handle & int(_ENTRY_MASK)
        return entry if entry <= self.capacity and self._handle.item(entry) == handle else 0

    def resolve(self, handles: NDArray[np.uint64]) -> tuple[IntColumn, NDArray[np.uint8]]:
        """Return the entry of each handle, and the status of those that are not valid (0: valid).

        The entry of a handle that is not valid is 0.
        """
        entries = (handles & _ENTRY_MASK).astype(np.int64)
        # Entries beyond the table are compared with its last one's handle, and differ from it.
        valid = self._handle.take(entries, mode="clip") == handles
        if valid.all():
            return entries, np.zeros(len(handles), np.uint8)
        entries[entries > self.capacity] = 0
        status = np.where(valid, RowStatus.OK, self._why_invalid(entries, handles))
        entries[status != RowStatus.OK] = 0
        return entries, status.astype(np.uint8)

    def _why_invalid(self, entries: IntColumn, handles: NDArray[np.uint64]) -> NDArray[np.uint8]:
        # Counted from this table's first one, in 32 bits as they are.
        generation = (handles >> _GENERATION_SHIFT).astype(np.uint32) - self._first
        ended = self._ends[entries]  # generations 1 to `ended` have
        status = np.full(len(handles), RowStatus.NOT_FOUND, np.uint8)
        was = (entries > 0) & (generation >= 1) & (generation <= ended)
        status[was] = RowStatus.STALE_HANDLE
        # Only the newest of the ended generations is remembered with its reason.
        newest = was & (generation == ended)
        status[newest] = self._ended_as[entries[newest]]
        return status

    def draw(self, entries: IntColumn, *, unique: bool = False) -> IntColumn:
        """Draw a ticket for each entry; an entry that stands there twice draws two, in order."""
        tickets = self.tail[entries]
        if unique or self.first_places(entries) is None:
            self.tail[entries] = tickets + 1
        else:
            tickets += occurrences(entries)
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
        """Let the next ticket of each entry have its turn, and note that it did something.

        Each entry at most once.
        """
        self.head[entries] += 1
        self.used[entries] = self.now

    def fail(self, entries: IntColumn) -> None:
        """Fail the rows that are queued at entries now; each entry at most once."""
        self.barrier[entries] = self.tail[entries]
        self.failed = True

    def _current(self, entries: IntColumn) -> NDArray[np.uint64]:
        # Generations begin at 1, so that no small number is ever a handle.
        generation = self._ends[entries] + self._first + np.uint32(1)
        return (generation.astype(np.uint64) << _GENERATION_SHIFT) | entries.astype(np.uint64)

    def _take(self, count: int) -> IntColumn:
        if count > self.room:
            raise ValueError(f"{count} entries were asked for, {self.room} are free")
        again = min(count, len(self._free))
        entries = [self._free.pop() for _ in range(again)]
        entries += range(len(self.ids), len(self.ids) + count - again)
        self.ids += [None] * (count - again)
        return np.array(entries, np.int64)
