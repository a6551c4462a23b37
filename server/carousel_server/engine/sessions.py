"""The sessions of one model: opening, finding, resetting and ending them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from carousel_server.engine.columns import IntColumn
from carousel_server.engine.directory import Directory
from carousel_server.engine.lot import States
from carousel_server.engine.observer import Observer
from carousel_server.engine.residency import Residency
from carousel_server.engine.runner import Runner
from carousel_server.engine.status import RowStatus
from carousel_server.engine.table import SessionTable
from carousel_server.errors import SessionNotFound


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What is told of one session."""

    id: str
    applied: int
    opened: float  # seconds since the epoch
    idle: float  # seconds
    parked: bool  # whether its state lies in host memory


class Sessions:
    """Table, slots and states of one model's sessions, kept in step with the directory.

    One thread at a time may call it: whoever has the engine's turn.
    """

    def __init__(
        self,
        *,
        number: int,
        runner: Runner,
        directory: Directory,
        observer: Observer,
        half: bool,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.table = SessionTable(directory.capacity)
        self.residency = Residency(self.table, runner, observer, half=half)
        self._number = number
        self._directory = directory
        self._observer = observer
        self._clock = clock
        self._wall_clock = wall_clock

    def open(self, ids: list[str], states: States) -> IntColumn:
        """Open sessions, all or none; return their entries.

        Args:
            ids: the sessions' ids.
            states: `[N, ...]` by name; states not named begin as the model says.

        Raises:
            NoRoom: there are as many sessions as there may be.
            SessionExists: an id is taken.

        """
        self._directory.check_room(len(ids))
        entries = self.table.add(ids, opened=self._wall_clock(), now=self._clock())
        try:
            self._directory.claim(ids, self._number, entries.tolist())
        except Exception:
            self.table.remove(entries, RowStatus.NOT_FOUND)
            raise
        self.residency.begin(entries, states)
        self._observer.opened(len(ids))
        return entries

    def find(self, ids: Sequence[str]) -> IntColumn:
        """Return the entries of sessions.

        Raises:
            SessionExpired: the one asked for was idle too long.
            SessionNotFound: some are not sessions of this model; it names them.

        """
        missing = self._directory.missing(ids, self._number)
        if len(missing) == 1:
            self._directory.find(missing[0])  # it may say more
        if missing:
            raise SessionNotFound(missing)
        return self.find_open(ids)

    def find_open(self, ids: Sequence[str]) -> IntColumn:
        """Return the entries of those of `ids` that are sessions of this model."""
        return np.array(self._directory.entries(ids, self._number), np.int64)

    def reset(self, entries: IntColumn) -> None:
        """Put sessions back to step 0 and the model's initial state."""
        self.residency.begin(entries)
        self.table.applied[entries] = 0
        self.table.barrier[entries] = 0

    def close(self, entries: IntColumn) -> None:
        """End sessions because their client said so."""
        self._directory.release(self._ids(entries))
        self._end(entries, RowStatus.STALE_HANDLE)
        self._observer.ended("closed", len(entries))

    def expire(self, idle_seconds: float) -> int:
        """End sessions that have done nothing for so long; return how many."""
        entries = self.table.idle(self.table.entries(), idle_seconds)
        if len(entries):
            self._directory.expire(self._ids(entries), f"idle for {idle_seconds:g} s")
            self._end(entries, RowStatus.EXPIRED)
            self._observer.ended("expired", len(entries))
        return len(entries)

    def info(self, entries: IntColumn) -> list[SessionInfo]:
        """Return what is told of sessions."""
        table, now = self.table, self._clock()
        return [
            SessionInfo(
                id=name,
                applied=int(table.applied[entry]),
                opened=float(table.opened[entry]),
                idle=max(0.0, now - float(table.used[entry])),
                parked=bool(table.parked[entry]),
            )
            for entry, name in zip(entries.tolist(), self._ids(entries), strict=True)
        ]

    def _ids(self, entries: IntColumn) -> list[str]:
        return [name for entry in entries.tolist() if (name := self.table.ids[entry]) is not None]

    def _end(self, entries: IntColumn, reason: RowStatus) -> None:
        self.residency.release(entries)
        self.table.remove(entries, reason)
