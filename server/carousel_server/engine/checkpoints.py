"""Which sessions are to be saved, and how far each of them is: in the store, and at its client.

A session is *due* when its state has taken in many steps since it was last gathered, or some and a
while has passed. Due sessions are gathered from the pool in one read between ticks; whoever keeps
them (`keeping/`) says later what became of them. Nothing here waits for a store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.columns import IntColumn
from carousel_server.engine.residency import Residency
from carousel_server.engine.table import SessionTable
from carousel_server.reading import Reading, States

#: In `delivered`: the session's client does not count what was delivered.
NOT_COUNTED = -1
#: In `token`: the session's record is yet to be made, and gives it.
NO_TOKEN = 0

# A client that is far behind with its counting would have ever more checkpoints kept for it. There
# are at most twice as many that it can't have heard of.
_MOST_AHEAD = 32
# Reading states holds up ticks, and they are in memory until they are written.
_BYTES_AT_ONCE = 16 << 20


@dataclass(frozen=True, slots=True)
class SavePolicy:
    """When a session is due.

    With `counted_only` only sessions whose clients count what was delivered to them are saved by
    themselves: nobody else can go back to a checkpoint of a store that ends with the server.
    """

    steps: int = 100
    seconds: float = 1.0
    counted_only: bool = True
    strict: bool = False  # every step is saved before it is answered


@dataclass(eq=False, slots=True)
class Gathered:
    """States of N sessions on their way into the store; columns of N."""

    entries: IntColumn
    handles: NDArray[np.uint64]  # that were valid
    ids: list[str]
    opened: NDArray[np.float64]
    initial: NDArray[np.bool_]  # whether they began with the model's initial state
    tokens: IntColumn
    lives: IntColumn  # which session of an entry's it was
    timelines: IntColumn
    steps: IntColumn
    delivered: IntColumn
    stored: NDArray[np.bool_]  # whether the store may have had something of theirs before
    reading: Reading  # [N, ...] each
    mark: str = ""  # keep them as marks of this name, not as checkpoints

    @property
    def nbytes(self) -> int:
        """Bytes of all states."""
        return self.reading.nbytes

    @property
    def states(self) -> States:
        """The states, `[N, ...]` each; it waits till they have come from the device."""
        return self.reading.get()

    @property
    def matters(self) -> bool:
        """Whether a store that ends with the server should have them.

        That is where a client counts, so that it could go back, or where there is something that
        these states take the place of.
        """
        return bool(self.stored.any() or (self.delivered != NOT_COUNTED).any())


#: Told, in an engine's turn, which of the gathered sessions the store has taken.
Kept = Callable[[Sequence[bool]], None]


class Keeper(Protocol):
    """Takes gathered states to the store."""

    @property
    def has_room(self) -> bool:
        """Whether it can take more now; the store may be slow, or away."""

    def keep(self, gathered: Gathered, then: Kept | None = None) -> None:
        """Take states, from any thread; answers with the control call `Acknowledge`, later."""


class NoKeeper:
    """Keeps nothing."""

    has_room = False

    def keep(self, gathered: Gathered, then: Kept | None = None) -> None:
        """Forget it."""


class Checkpoints:
    """Columns over the table's entries. Whoever has the engine's turn calls it."""

    def __init__(
        self,
        table: SessionTable,
        residency: Residency,
        policy: SavePolicy,
        keeper: Keeper,
    ) -> None:
        size = table.capacity + 1
        self.policy = policy
        self.delivered = np.zeros(size, np.int64)  # answers that the client holds, or NOT_COUNTED
        self.token = np.zeros(size, np.int64)  # the right to write; NO_TOKEN: the store says it
        self.stored = np.zeros(size, np.bool_)  # whether the store may have heard of it
        self.life = np.zeros(size, np.int64)  # how many sessions the entry has had
        # Raised when a session is put back: what was gathered before is of another future.
        self.timeline = np.zeros(size, np.int64)
        # Whether it was put back, and the store may still have what was further on.
        self.owed = np.zeros(size, np.bool_)
        self._initial = np.zeros(size, np.bool_)
        self._gathered = np.zeros(size, np.int64)  # the step at which it was last gathered
        self._gathered_at = np.zeros(size, np.float64)  # seconds on the engine's clock
        self._ahead = np.zeros(size, np.int64)  # times it was gathered after `_mile`
        self._mile = np.zeros(size, np.int64)  # a step that the client has not been seen to reach
        self._saves = not policy.counted_only  # whether any session may be due
        self._table = table
        self._residency = residency
        self._keeper = keeper

    def begin(
        self,
        entries: IntColumn,
        tokens: IntColumn,
        *,
        initial: bool | NDArray[np.bool_],
        stored: bool,
    ) -> None:
        """Note sessions that begin here where they stand.

        Args:
            entries: theirs.
            tokens: with which they may be written.
            initial: whether they began, here or elsewhere, with the model's initial state.
            stored: whether they come from the store, where they stand as they do here.

        """
        applied = self._table.applied[entries]
        self._table.durable[entries] = applied if stored else 0
        self._initial[entries] = initial
        self.delivered[entries] = NOT_COUNTED
        self.token[entries] = tokens
        self.stored[entries] = stored
        self.owed[entries] = False
        self.life[entries] += 1
        self.timeline[entries] += 1
        self._gathered_at[entries] = self._table.now
        self._begin_counting(entries)

    def put_back(self, entries: IntColumn) -> None:
        """Note sessions that were put to another step than they stood at."""
        applied = self._table.applied[entries]
        self._table.durable[entries] = np.minimum(self._table.durable[entries], applied)
        self.delivered[entries] = np.minimum(self.delivered[entries], applied)
        self.owed[entries] = self.stored[entries]
        self.timeline[entries] += 1
        self._begin_counting(entries)

    def began_as_model(self, entries: IntColumn) -> NDArray[np.bool_]:
        """Return whether sessions began with the model's initial state, at step 0."""
        return self._initial[entries]

    def _begin_counting(self, entries: IntColumn) -> None:
        self._gathered[entries] = self._mile[entries] = self._table.applied[entries]
        self._ahead[entries] = 0

    def deliver(self, entries: IntColumn, delivered: IntColumn) -> None:
        """Note how many answers the clients of sessions hold."""
        self._saves = True
        entries, delivered = entries[entries > 0], delivered[entries > 0]
        known = np.minimum(delivered, self._table.applied[entries])
        # A session may come more than once, with rows of several messages.
        np.maximum.at(self.delivered, entries, known)
        passed = entries[self.delivered[entries] >= self._mile[entries]]
        self._mile[passed] = self._gathered[passed]
        self._ahead[passed] = 0

    def deliver_one(self, entry: int, delivered: int) -> None:
        """Note it for one session, in plain numbers: a step alone takes not much longer."""
        self._saves = True
        known = min(delivered, self._table.applied.item(entry))
        known = max(self.delivered.item(entry), known)
        self.delivered[entry] = known
        if known >= self._mile.item(entry):
            self._mile[entry] = self._gathered[entry]
            self._ahead[entry] = 0

    def is_due(self, entry: int) -> bool:
        """Return whether `save_due` would look at a session."""
        if not self._saves:
            return False
        since = self._table.applied.item(entry) - self._gathered.item(entry)
        return since >= self.policy.steps

    def save_due(self, entries: IntColumn) -> None:
        """Gather those of the sessions that are due by their steps."""
        if self._saves and self._keeper.has_room:
            since = self._table.applied[entries] - self._gathered[entries]
            self._save(entries[since >= self.policy.steps])

    def save_late(self) -> bool:
        """Gather sessions that are due because a while has passed; return whether more are."""
        if not (self._saves and self._keeper.has_room):
            return False
        entries = self._table.entries()
        waited = self._table.now - self._gathered_at[entries] >= self.policy.seconds
        due = entries[waited & (self._table.applied[entries] > self._gathered[entries])]
        due = self._that_may(due)
        most = max(1, _BYTES_AT_ONCE // self._residency.state_bytes)
        some = due[:most]
        if len(some):
            self._keeper.keep(self.gather(some))
        return len(some) < len(due)

    def save_changed(self, entries: IntColumn) -> None:
        """Gather those of the sessions that have taken in a step since they last were."""
        if self._saves and self._keeper.has_room:
            self._save(entries[self._table.applied[entries] > self._gathered[entries]])

    def gather(self, entries: IntColumn, *, surely: bool = True) -> Gathered:
        """Read the states of sessions out, to be saved: `surely`, or where `Gathered.matters`."""
        self._gathered[entries] = self._table.applied[entries]
        self._gathered_at[entries] = self._table.now
        self._ahead[entries] += 1
        gathered = self.read(entries)
        self.stored[entries] |= surely or gathered.matters
        return gathered

    def read(self, entries: IntColumn, *, mark: str = "") -> Gathered:
        """Read the states of sessions out, with all that a store must know of them."""
        table = self._table
        return Gathered(
            entries=entries,
            handles=table.handles(entries),
            ids=[table.ids[entry] or "" for entry in entries.tolist()],
            opened=table.opened[entries],
            initial=self._initial[entries],
            tokens=self.token[entries],
            lives=self.life[entries],
            timelines=self.timeline[entries],
            steps=table.applied[entries],
            delivered=self.delivered[entries],
            stored=self.stored[entries],
            reading=self._residency.peek(entries),
            mark=mark,
        )

    def acknowledge(self, gathered: Gathered, kept: Sequence[bool]) -> IntColumn:
        """Take note of what the store has; return the entries that another server has by now."""
        entries = gathered.entries
        same = self._same(gathered)
        kept_ = np.asarray(kept, np.bool_)
        if not gathered.mark:
            now = same & kept_ & (self.timeline[entries] == gathered.timelines)
            durable = self._table.durable[entries[now]]
            self._table.durable[entries[now]] = np.maximum(durable, gathered.steps[now])
            self.owed[entries[now]] = False
        lost: IntColumn = entries[same & ~kept_]
        return lost

    def _same(self, gathered: Gathered) -> NDArray[np.bool_]:
        """Return which of the entries still have the session that was gathered."""
        entries = gathered.entries
        same: NDArray[np.bool_] = self.life[entries] == gathered.lives
        return same & self._table.is_open(entries)

    def _save(self, entries: IntColumn) -> None:
        if len(entries := self._that_may(entries)):
            self._keeper.keep(self.gather(entries))

    def _that_may(self, entries: IntColumn) -> IntColumn:
        """Return those of the sessions of which the store is to have more checkpoints."""
        if not len(entries):
            return entries
        counted = self.delivered[entries] != NOT_COUNTED
        may = counted & (self._ahead[entries] < _MOST_AHEAD)
        if not self.policy.counted_only:
            may |= ~counted
        chosen: IntColumn = entries[may]
        return chosen
