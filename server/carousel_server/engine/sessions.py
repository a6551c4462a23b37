"""The sessions of one model: opening, finding, resetting and ending them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.checkpoints import (
    Checkpoints,
    Gathered,
    Keeper,
    SavePolicy,
)
from carousel_server.engine.columns import IntColumn
from carousel_server.engine.directory import Directory
from carousel_server.engine.marks import Marks
from carousel_server.engine.observer import Observer
from carousel_server.engine.residency import Residency
from carousel_server.engine.runner import Runner
from carousel_server.engine.status import RowStatus
from carousel_server.engine.table import SessionTable
from carousel_server.errors import SessionNotFound
from carousel_server.reading import States


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What is told of one session."""

    id: str
    applied: int
    durable: int
    opened: float  # seconds since the epoch
    idle: float  # seconds
    parked: bool  # whether its state lies in host memory


@dataclass(frozen=True, slots=True)
class Origin:
    """Where sessions come from; columns of N."""

    applied: IntColumn  # steps that the states have taken in
    tokens: IntColumn  # with which they may be written to the store
    stored: bool = False  # whether they come from the store
    opened: NDArray[np.float64] | None = None  # seconds since the epoch; None: now
    #: Whether they began with the model's initial state; None: those without states do.
    initial: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """Sessions that ended, and their tokens; columns of N."""

    ids: list[str]
    tokens: list[int]
    stored: list[bool]  # whether the store may have heard of them

    def only(self, ids: Collection[str]) -> Ended:
        """Return those of some ids."""
        rows = [row for row, name in enumerate(self.ids) if name in ids]
        columns: tuple[list[Any], ...] = (self.ids, self.tokens, self.stored)
        return Ended(*([column[row] for row in rows] for column in columns))


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
        policy: SavePolicy,
        keeper: Keeper,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.table = SessionTable(directory.capacity, number)
        self.residency = Residency(
            self.table, runner, observer, half=half, on_park=self._before_parking
        )
        self.checkpoints = Checkpoints(self.table, self.residency, policy, keeper)
        self.marks = Marks()
        self._number = number
        self._directory = directory
        self._observer = observer
        self._clock = clock
        self._wall_clock = wall_clock

    def open(
        self,
        ids: list[str],
        states: States,
        origin: Origin | None = None,
    ) -> IntColumn:
        """Open sessions, all or none; return their entries.

        Args:
            ids: the sessions' ids.
            states: `[N, ...]` by name; states not named begin as the model says.
            origin: where they come from; None: they begin, and no store knows of them.

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
        origin = origin or Origin(np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64))
        self.table.applied[entries] = origin.applied
        if origin.opened is not None:
            self.table.opened[entries] = origin.opened
        self.residency.begin(entries, states)
        initial = not states if origin.initial is None else origin.initial
        self.checkpoints.begin(entries, origin.tokens, initial=initial, stored=origin.stored)
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

    def reset(self, entries: IntColumn) -> Gathered:
        """Put sessions back to step 0 and the model's initial state; return what is to be saved."""
        return self.put_back(entries, np.zeros(len(entries), np.int64))

    def put_back(
        self, entries: IntColumn, applied: IntColumn, states: States | None = None
    ) -> Gathered:
        """Put sessions to `states` (None: the model's initial ones), and step counts to match.

        Returns:
            What is to be saved, so that nobody goes on from what they have been put back from.

        """
        self.residency.begin(entries, states)
        self.table.applied[entries] = applied
        self.table.barrier[entries] = 0
        self.checkpoints.put_back(entries)
        return self.checkpoints.gather(entries, surely=False)

    def close(self, entries: IntColumn) -> Ended:
        """End sessions because their client said so."""
        ended = self.ended(entries)
        self._directory.release(ended.ids)
        self._end(entries, RowStatus.STALE_HANDLE)
        self._observer.ended("closed", len(entries))
        return ended

    def leave(self, entries: IntColumn) -> Gathered:
        """Let nobody step sessions any more that are to go on elsewhere; return their states."""
        self.table.invalidate(entries, RowStatus.MOVED)
        return self.checkpoints.gather(entries)

    def give_up(self, entries: IntColumn) -> Ended:
        """End sessions here that go on elsewhere; rows of theirs are answered MOVED."""
        ended = self.ended(entries)
        self._directory.release(ended.ids)
        self._end(entries, RowStatus.MOVED)
        self._observer.ended("moved", len(entries))
        return ended

    def expire(self, idle_seconds: float) -> Ended:
        """End sessions that have done nothing for so long."""
        entries = self.table.idle(self.table.entries(), idle_seconds)
        ended = self.ended(entries)
        if len(entries):
            self._directory.expire(ended.ids, f"idle for {idle_seconds:g} s")
            self._end(entries, RowStatus.EXPIRED)
            self._observer.ended("expired", len(entries))
        return ended

    def ended(self, entries: IntColumn) -> Ended:
        """Return what the store must be told of sessions that end."""
        known = self.checkpoints
        tokens, stored = known.token[entries].tolist(), known.stored[entries].tolist()
        return Ended(self.ids(entries), tokens, stored)

    def info(self, entries: IntColumn) -> list[SessionInfo]:
        """Return what is told of sessions."""
        table, now = self.table, self._clock()
        return [
            SessionInfo(
                id=name,
                applied=int(table.applied[entry]),
                durable=int(table.durable[entry]),
                opened=float(table.opened[entry]),
                idle=max(0.0, now - float(table.used[entry])),
                parked=bool(table.parked[entry]),
            )
            for entry, name in zip(entries.tolist(), self.ids(entries), strict=True)
        ]

    def ids(self, entries: IntColumn) -> list[str]:
        """Return the ids of open sessions."""
        return [name for entry in entries.tolist() if (name := self.table.ids[entry]) is not None]

    def _before_parking(self, entries: IntColumn) -> None:
        self.checkpoints.save_changed(entries)

    def _end(self, entries: IntColumn, reason: RowStatus) -> None:
        self.marks.release(entries)
        self.residency.release(entries)
        self.table.remove(entries, reason)
