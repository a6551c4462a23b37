"""What the sessions and groups of both shells have in common: all but waiting."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from carousel_client._arrays import many_sessions, one_session
from carousel_client._block import FIRST_ROW, Block, Roster
from carousel_client._columns import Array, Ints
from carousel_client._errors import CarouselError, GroupError, InvalidInput, SessionError
from carousel_client._kinds import came, check_mapping, check_number, check_whole
from carousel_client._models import ModelInfo


class RosterView:
    """Sessions of one model and version, as their user sees them."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    @property
    def model(self) -> str:
        """Return the model's name."""
        return self._roster.model.name

    @property
    def version(self) -> str:
        """Return the model's version."""
        return self._roster.model.version

    @property
    def info(self) -> ModelInfo:
        """Return what the model takes and gives."""
        return self._roster.model

    def _live(self) -> Ints:
        """Return the rows whose sessions are open, as far as is known: (n,)."""
        gone = self._roster.gone
        return np.array([row for row in range(len(self._roster.ids)) if row not in gone], np.int64)

    def _meant(self, rows: Iterable[int] | None = None) -> Ints:
        """Return these rows, all where `rows` is None: (n,). Raises InvalidInput."""
        size = len(self._roster.ids)
        if rows is None:
            return np.arange(size)
        if not isinstance(rows, Iterable):
            raise InvalidInput(f"rows: expected rows' numbers, such as [0], but got {came(rows)}")
        numbers = list(rows)
        for number in numbers:
            check_whole(number, "rows")
        chosen = np.unique(np.array(numbers, np.int64))
        if len(chosen) and not (chosen[0] >= 0 and chosen[-1] < size):
            raise InvalidInput(f"rows must be within 0 to {size - 1}, but {chosen.tolist()} came")
        return chosen


class SessionView(RosterView):
    """One session."""

    @property
    def id(self) -> str:
        """Return the session's id, by which any client can attach to it."""
        return self._roster.ids[0]

    @property
    def applied(self) -> int:
        """Return how many steps the session's state has taken in, as far as the client knows."""
        return int(self._roster.held(FIRST_ROW)[0])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} of {self.model}/{self.version}>"

    def _block(self, x: Any, timeout: float | None, *, copy: bool = False) -> Block:
        chunks = one_session(self._roster.model, x)
        if copy:  # the source may use its buffer again before this is sent
            chunks.inputs.update({name: flat.copy() for name, flat in chunks.inputs.items()})
        return Block(self._roster, chunks, timeout=timeout, deadline=_deadline(timeout))


class GroupView(RosterView):
    """N sessions that are stepped together."""

    @property
    def ids(self) -> Sequence[str]:
        """Return the sessions' ids, N, in the order of the rows."""
        return tuple(self._roster.ids)

    @property
    def applied(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """Return how many steps each session's state has taken in: (N,)."""
        return self._roster.held(np.arange(len(self))).astype(np.uint64)

    def __len__(self) -> int:
        return len(self._roster.ids)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} sessions of {self.model}/{self.version}>"

    def _block(self, x: Any, timeout: float | None) -> Block:
        chunks = many_sessions(self._roster.model, x, len(self))
        return Block(self._roster, chunks, timeout=timeout, deadline=_deadline(timeout))


def check(errors: dict[int, CarouselError], *, rows: int, grouped: bool) -> None:
    """Raise the errors of a control call, if there are any."""
    if errors and grouped:
        raise GroupError(errors, rows=rows)
    for error in errors.values():
        raise error


def still_ours(errors: dict[int, CarouselError]) -> dict[int, CarouselError]:
    """Return what is worth telling after a close: not that a session is gone or another's."""
    return {row: error for row, error in errors.items() if not isinstance(error, SessionError)}


def row_of(columns: Mapping[str, Array], row: int) -> dict[str, Array]:
    """Return one row of some columns, as arrays of their own."""
    return {name: np.array(column[row]) for name, column in columns.items()}


def check_window(window: int) -> None:
    """Raise InvalidInput unless a window holds something."""
    check_whole(window, "window", least=1)


def _deadline(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    check_number(timeout, "timeout")
    if timeout <= 0:
        raise InvalidInput(f"timeout must be positive, in seconds, but is {timeout:g}")
    return time.monotonic() + timeout


def wanted(sessions: int | Sequence[str]) -> list[str | None]:
    """Return the ids of the sessions to open: None for each whose id doesn't matter."""
    if isinstance(sessions, str | bytes | Mapping) or not isinstance(sessions, Iterable):
        if isinstance(sessions, int | np.integer) and not isinstance(sessions, bool):
            check_whole(sessions, "the number of sessions", least=1)
            return [None] * int(sessions)
        raise InvalidInput(
            f"expected a number of sessions or a list of ids, but got {came(sessions)}"
        )
    return list(sessions)


def wanted_for(saved: object, ids: Sequence[str] | None) -> list[str | None]:
    """Return the ids of the sessions to make of snapshots. Raises InvalidInput."""
    if ids is not None:
        return wanted(ids)
    if isinstance(saved, str | bytes) or not isinstance(saved, Sequence):
        raise InvalidInput(f"expected a list of snapshots, but got {came(saved)}")
    return [None] * len(saved)


def names(ids: Sequence[str]) -> list[str]:
    """Return the ids of sessions to attach to. Raises InvalidInput."""
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Iterable):
        raise InvalidInput(f"expected a list of sessions' ids, but got {came(ids)}")
    return list(ids)


def one_state_each(states: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return one session's states `[*state]` as those of a group of one, `[1, *state]`."""
    if states is None:
        return None
    check_mapping(states, "initial_states")
    return {name: _stacked(name, state) for name, state in states.items()}


def _stacked(name: str, state: Any) -> Array:
    try:
        return np.asarray(state)[np.newaxis]
    except ValueError as error:
        raise InvalidInput(f"state {name!r} is not an array: {error}") from None
