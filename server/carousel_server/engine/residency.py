"""Whose states are in the pool, and whose are parked.

A session that is to be stepped needs a slot. Where none is free, the sessions that did nothing for
the longest time are parked: their states go to host memory in one read of the pool, and come back
in one write when they are to be stepped again. A session that has not been stepped yet, or was
reset, has its initial state and takes no room anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.columns import IntColumn, join
from carousel_server.engine.lot import ParkingLot
from carousel_server.engine.observer import Observer
from carousel_server.engine.runner import Runner, copy_states
from carousel_server.engine.slots import SlotAllocator
from carousel_server.engine.table import SessionTable
from carousel_server.reading import Here, Partly, Reading, States

# So many of the slots, one in sixteen, are emptied at a time: looking for the sessions that were
# idle longest costs the same for one as for many.
_SHARE = 16
# States that change runners go through host memory, so many at a time.
_MOVED = 4096
_NOBODY = np.zeros(0, np.int64)


class Residency:
    """Moves states between the pool and the parking lot. Whoever has the engine's turn calls it."""

    def __init__(
        self,
        table: SessionTable,
        runner: Runner,
        observer: Observer,
        *,
        half: bool,
        on_park: Callable[[IntColumn], None] = lambda _: None,
    ) -> None:
        self.slots = SlotAllocator(runner.slots)
        self.lot = ParkingLot(runner.spec.states, half=half)
        self._table = table
        self._runner = runner
        self._observer = observer
        self._on_park = on_park
        self._owner = np.zeros(runner.slots + 1, np.int64)  # entry in each slot; 0: nobody
        self._wanted = np.zeros(runner.slots + 1, np.bool_)
        self.states = runner.spec.states
        self._initial = {state.name: state.initial for state in runner.spec.states}

    @property
    def state_bytes(self) -> int:
        """Bytes of one session's states."""
        return sum(state.nbytes for state in self.states)

    def bring(self, entries: IntColumn, beside: IntColumn = _NOBODY) -> None:
        """See to it that sessions have slots; each entry once, and no more than there are slots.

        Those `beside` keep theirs: they are being stepped.
        """
        slots = self._table.slot[entries]
        if slots.all():
            return
        absent = entries[slots == 0]
        if len(absent) > self.slots.free:
            self._make_room(len(absent), keep=join([slots, self._table.slot[beside]]))
        fresh = self.slots.take(len(absent))
        self._runner.write(fresh, self._absent(absent))
        if parked := int((self._table.parked[absent] > 0).sum()):
            self._observer.restored(parked)
        self._unpark(absent)
        self._table.slot[absent] = fresh
        self._owner[fresh] = absent

    def change(self, runner: Runner) -> None:
        """Have another runner hold the states from now on: the same ones, in the same slots."""
        taken = np.flatnonzero(self._owner)
        for first in range(0, len(taken), _MOVED):
            slots = taken[first : first + _MOVED]
            runner.write(slots, self._runner.read(slots))
        self._runner = runner
        self.states = runner.spec.states
        self._initial = {state.name: state.initial for state in runner.spec.states}

    def peek(self, entries: IntColumn) -> Reading:
        """Return copies of sessions' states, `[N, ...]` each, wherever they lie."""
        slots = self._table.slot[entries]
        live = slots > 0
        if live.all():
            return copy_states(self._runner, slots)
        states = {name: values.copy() for name, values in self._absent(entries).items()}
        if not live.any():
            return Here(states)
        return Partly(states, live, copy_states(self._runner, slots[live]))

    def park_idle(self, seconds: float) -> int:
        """Park the sessions that did nothing for so long; return how many."""
        entries = self._table.idle(self._owner[self._owner > 0], seconds)
        if len(entries):
            self._park(entries)
        return len(entries)

    def begin(self, entries: IntColumn, states: States | None = None) -> None:
        """Put sessions to their initial state, or to `states`, `[N, ...]` by name."""
        self.release(entries)
        if states:
            kept = Here(self._with_initial(len(entries), states))
            self._table.parked[entries] = self.lot.put(len(entries), kept)

    def release(self, entries: IntColumn) -> None:
        """Take slots and parked states away from sessions."""
        slots = self._table.slot[entries]
        slots = slots[slots > 0]
        self._owner[slots] = 0
        self.slots.give(slots)
        self._table.slot[entries] = 0
        self._unpark(entries)

    def _make_room(self, count: int, *, keep: IntColumn) -> None:
        """Park sessions, those first that were idle longest, but none in the slots `keep`."""
        self._wanted[keep] = True
        others = np.flatnonzero((self._owner > 0) & ~self._wanted)
        self._wanted[keep] = False
        entries = self._owner[others]
        count = min(len(entries), max(count - self.slots.free, self.slots.count // _SHARE))
        if count < len(entries):
            oldest = np.argpartition(self._table.used[entries], count)[:count]
            entries = entries[oldest]
        self._park(entries)

    def _park(self, entries: IntColumn) -> None:
        self._on_park(entries)
        slots = self._table.slot[entries]
        self._table.parked[entries] = self.lot.put(len(entries), copy_states(self._runner, slots))
        self._table.slot[entries] = 0
        self._owner[slots] = 0
        self.slots.give(slots)
        self._observer.parked(len(entries))

    def _unpark(self, entries: IntColumn) -> None:
        rows = self._table.parked[entries]
        rows = rows[rows > 0]
        if len(rows):
            self.lot.give(rows)
            self._table.parked[entries] = 0

    def _absent(self, entries: IntColumn) -> States:
        """Return the states of sessions as they are without a slot, `[N, ...]` each."""
        rows = self._table.parked[entries]
        parked = rows > 0
        if not parked.any():
            return self._with_initial(len(entries), {})
        kept = self.lot.get(rows)
        if not parked.all():
            for name, values in kept.items():
                values[~parked] = self._initial[name]
        return kept

    def _with_initial(self, count: int, states: States) -> dict[str, NDArray[np.generic]]:
        return {
            name: states[name]
            if name in states
            else np.broadcast_to(initial, (count, *initial.shape))
            for name, initial in self._initial.items()
        }
