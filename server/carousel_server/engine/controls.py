"""Control calls: what can be done to sessions besides stepping them.

A call that speaks of sessions waits for their queued rows: `prepare` finds the entries, which draw
a ticket each, and `run` has its turn when all of them have come to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.checkpoints import Gathered
from carousel_server.engine.columns import IntColumn
from carousel_server.engine.sessions import Ended, Origin, SessionInfo, Sessions
from carousel_server.engine.status import RowStatus

_NONE = np.zeros(0, np.int64)


_Result = TypeVar("_Result")
_Result_co = TypeVar("_Result_co", covariant=True)


class Control(Protocol[_Result_co]):
    """One control call, and what it results in."""

    def prepare(self, sessions: Sessions) -> IntColumn:
        """Return the entries whose queued rows the call must wait for.

        Raises:
            CarouselError: the call can't be carried out.

        """

    def run(self, sessions: Sessions) -> _Result_co:
        """Carry the call out and return its result.

        Raises:
            CarouselError: it can't be carried out; nothing was changed.

        """


#: Something to be said to a client, on the event loop.
Delivery = Callable[[], None]


@dataclass(eq=False, slots=True)
class Call:
    """A control call on its way, and where its result goes."""

    control: Control[Any]
    reply: Callable[[Any], None]  # takes the result, or the CarouselError
    entries: IntColumn = field(default_factory=lambda: _NONE)
    tickets: IntColumn = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, slots=True)
class Attached:
    """Handles of sessions, and where they stand; columns of N."""

    handles: NDArray[np.uint64]
    applied: IntColumn
    durable: IntColumn
    owed: NDArray[np.bool_]  # whether the store may still have steps that were taken back


def _attached(sessions: Sessions, entries: IntColumn) -> Attached:
    table, owed = sessions.table, sessions.checkpoints.owed[entries]
    return Attached(table.handles(entries), table.applied[entries], table.durable[entries], owed)


@dataclass(eq=False, slots=True)
class Open:
    """Opens sessions, all or none; gives `Attached`. See `Sessions.open`."""

    ids: list[str]
    states: Mapping[str, NDArray[np.generic]]
    origin: Origin | None = None

    def prepare(self, sessions: Sessions) -> IntColumn:  # noqa: ARG002 - there is nobody to wait for
        """Wait for nobody."""
        return _NONE

    def run(self, sessions: Sessions) -> Attached:
        """Open the sessions."""
        return _attached(sessions, sessions.open(self.ids, self.states, self.origin))


@dataclass(eq=False, slots=True)
class Attach:
    """Takes sessions up by their ids, all or none; gives `Attached`."""

    ids: list[str]

    def prepare(self, sessions: Sessions) -> IntColumn:
        """Wait for the sessions' rows."""
        return sessions.find(self.ids)

    def run(self, sessions: Sessions) -> Attached:
        """Make the old handles stale and give new ones."""
        entries = sessions.find(self.ids)  # again: they may have been closed meanwhile
        sessions.table.invalidate(entries, RowStatus.STALE_HANDLE)
        return _attached(sessions, entries)


@dataclass(frozen=True, slots=True)
class Acted(Generic[_Result]):
    """What became of rows, `[N]` uint8, and of the OK ones together; None if there is none."""

    status: NDArray[np.uint8]
    value: _Result | None


@dataclass(eq=False, slots=True)
class ByHandle(Generic[_Result]):
    """Does something to the sessions of valid handles; gives `Acted`."""

    handles: NDArray[np.uint64]
    act: Callable[[Sessions, IntColumn], _Result]

    def prepare(self, sessions: Sessions) -> IntColumn:
        """Wait for the sessions' rows."""
        entries, status = self._resolve(sessions)
        valid: IntColumn = entries[status == 0]
        return valid

    def run(self, sessions: Sessions) -> Acted[_Result]:
        """Act on the sessions whose handles are valid now."""
        entries, status = self._resolve(sessions)
        valid = entries[status == 0]
        return Acted(status, self.act(sessions, valid) if len(valid) else None)

    def _resolve(self, sessions: Sessions) -> tuple[IntColumn, NDArray[np.uint8]]:
        entries, status = sessions.table.resolve(self.handles)
        first = sessions.table.first_places(entries)
        if first is not None:
            status = np.where((status == 0) & ~first, RowStatus.DUPLICATE, status).astype(np.uint8)
        return entries, status


def reset(handles: NDArray[np.uint64]) -> ByHandle[Gathered]:
    """Return the call that puts sessions back to step 0."""
    return ByHandle(handles, Sessions.reset)


def close(handles: NDArray[np.uint64]) -> ByHandle[Ended]:
    """Return the call that ends sessions."""
    return ByHandle(handles, Sessions.close)


@dataclass(eq=False, slots=True)
class Describe:
    """Tells of those of the sessions that are open; gives a list of `SessionInfo`."""

    ids: Sequence[str]

    def prepare(self, sessions: Sessions) -> IntColumn:  # noqa: ARG002 - it tells how things stand now
        """Wait for nobody."""
        return _NONE

    def run(self, sessions: Sessions) -> list[SessionInfo]:
        """Collect what is told of them."""
        return sessions.info(sessions.find_open(self.ids))


@dataclass(eq=False, slots=True)
class Expire:
    """Ends sessions that were idle for too long; gives `Ended`."""

    idle_seconds: float

    def prepare(self, sessions: Sessions) -> IntColumn:  # noqa: ARG002 - busy sessions are not idle
        """Wait for nobody."""
        return _NONE

    def run(self, sessions: Sessions) -> Ended:
        """End them."""
        return sessions.expire(self.idle_seconds)


@dataclass(eq=False, slots=True)
class Park:
    """Parks sessions that were idle for so long; gives their number."""

    idle_seconds: float

    def prepare(self, sessions: Sessions) -> IntColumn:  # noqa: ARG002 - busy sessions are not idle
        """Wait for nobody."""
        return _NONE

    def run(self, sessions: Sessions) -> int:
        """Park them."""
        return sessions.residency.park_idle(self.idle_seconds)
