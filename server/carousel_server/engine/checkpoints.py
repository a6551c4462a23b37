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
from carousel_server.engine.lot import States
from carousel_server.engine.residency import Residency
from carousel_server.engine.table import SessionTable

#: In `delivered`: the session's client does not count what was delivered.
NOT_COUNTED = -1

# A client that is far behind with its counting would have ever more checkpoints kept for it.
_MOST_AHEAD = 32


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
    timelines: IntColumn
    steps: IntColumn
    delivered: IntColumn
    states: States  # [N, ...] each
    mark: str = ""  # keep them as marks of this name, not as checkpoints

    @property
    def nbytes(self) -> int:
        """Bytes of all states."""
        return sum(values.nbytes for values in self.states.values())


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
        self.token = np.zeros(size, np.int64)  # the right to write
        # Raised when a session is put back: what was gathered before is of another future.
        self.timeline = np.zeros(size, np.int64)
        self._initial = np.zeros(size, np.bool_)
        self._gathered = np.zeros(size, np.int64)  # the step at which it was last gathered
        self._gathered_at = np.zeros(size, np.float64)  # seconds on the engine's clock
        self._ahead = np.zeros(size, np.int64)  # gathered since all was delivered
        self._saves = not policy.counted_only  # whether any session may be due
        self._table = table
        self._residency = residency
        self._keeper = keeper

    def begin(
        self,
        entries: IntColumn,
        tokens: IntColumn | None = None,
        *,
        initial: bool | NDArray[np.bool_],
    ) -> None:
        """Note sessions that begin here where they stand.

        Args:
            entries: theirs.
            tokens: of those that come from the store, where they stand as they do; None: new ones.
            initial: whether they began, here or elsewhere, with the model's initial state.

        """
        applied = self._table.applied[entries]
        self._table.durable[entries] = 0 if tokens is None else applied
        self._initial[entries] = initial
        self.delivered[entries] = NOT_COUNTED
        self.token[entries] = 1 if tokens is None else tokens
        self.timeline[entries] += 1
        self._gathered[entries] = applied
        self._gathered_at[entries] = self._table.now
        self._ahead[entries] = 0

    def put_back(self, entries: IntColumn) -> None:
        """Note sessions that were put to another step than they stood at."""
        applied = self._table.applied[entries]
        self._table.durable[entries] = np.minimum(self._table.durable[entries], applied)
        self.delivered[entries] = np.minimum(self.delivered[entries], applied)
        self.timeline[entries] += 1
        self._gathered[entries] = applied
        self._ahead[entries] = 0

    def deliver(self, entries: IntColumn, delivered: IntColumn) -> None:
        """Note how many answers the clients of sessions hold."""
        self._saves = True
        entries, delivered = entries[entries > 0], delivered[entries > 0]
        known = np.minimum(delivered, self._table.applied[entries])
        self.delivered[entries] = np.maximum(self.delivered[entries], known)
        caught_up = self.delivered[entries] >= self._gathered[entries]
        self._ahead[entries[caught_up]] = 0

    def save_due(self, entries: IntColumn) -> None:
        """Gather those of the sessions that are due by their steps."""
        if self._saves and self._keeper.has_room:
            since = self._table.applied[entries] - self._gathered[entries]
            self._save(entries[since >= self.policy.steps])

    def save_late(self) -> None:
        """Gather the sessions that are due because a while has passed."""
        if not (self._saves and self._keeper.has_room):
            return
        entries = self._table.entries()
        waited = self._table.now - self._gathered_at[entries] >= self.policy.seconds
        self._save(entries[waited & (self._table.applied[entries] > self._gathered[entries])])

    def save_changed(self, entries: IntColumn) -> None:
        """Gather those of the sessions that have taken in a step since they last were."""
        if self._saves and self._keeper.has_room:
            self._save(entries[self._table.applied[entries] > self._gathered[entries]])

    def gather(self, entries: IntColumn) -> Gathered:
        """Read the states of sessions out, to be saved."""
        self._gathered[entries] = self._table.applied[entries]
        self._gathered_at[entries] = self._table.now
        self._ahead[entries] += 1
        return self.read(entries)

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
            timelines=self.timeline[entries],
            steps=table.applied[entries],
            delivered=self.delivered[entries],
            states=self._residency.peek(entries),
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
        lost: IntColumn = entries[same & ~kept_]
        return lost

    def _same(self, gathered: Gathered) -> NDArray[np.bool_]:
        """Return which of the entries still have the session that was gathered."""
        ids = self._table.ids
        names = [
            ids[entry] == name
            for entry, name in zip(gathered.entries.tolist(), gathered.ids, strict=True)
        ]
        same: NDArray[np.bool_] = np.array(names, np.bool_)
        same &= self.token[gathered.entries] == gathered.tokens
        return same

    def _save(self, entries: IntColumn) -> None:
        if not len(entries):
            return
        counted = self.delivered[entries] != NOT_COUNTED
        may = counted & (self._ahead[entries] < _MOST_AHEAD)
        if not self.policy.counted_only:
            may |= ~counted
        if len(entries := entries[may]):
            self._keeper.keep(self.gather(entries))
