"""Calls about open sessions other than steps: what they ask, and what their answers say.

Each stands in its sessions' line like a step: it waits for what was submitted before, and holds up
what is submitted after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from carousel import wire
from carousel.v1 import sessions_pb2 as pb
from carousel_client import _calls as calls
from carousel_client import _faults as faults
from carousel_client._block import Roster
from carousel_client._calls import Method
from carousel_client._columns import Array, Counts, Ints
from carousel_client._errors import (
    CarouselError,
    InvalidInput,
    MarkNotFound,
    ServerError,
    SessionClosed,
)
from carousel_client._kinds import check_name

#: Statuses after which a session that outlives its server is looked for.
_ELSEWHERE: Final = frozenset({pb.ROW_STATUS_STALE_HANDLE, pb.ROW_STATUS_MOVED})

#: The most steps that the wire can count.
_MOST_STEPS: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Control:
    """One call about sessions, and its fields other than which sessions.

    `loose`: it does away with where the sessions stand, so they needn't first be brought there.
    """

    method: Method
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    loose: bool = False

    def request(self, roster: Roster, server_id: int, rows: Ints) -> Any:
        """Return the request about rows (n,) of a roster, all of one server."""
        return self.method.request(
            model=roster.model.name,
            version=roster.model.version,
            server_id=server_id,
            handles=roster.handles[rows].astype(wire.HANDLE_DTYPE).tobytes(),
            **self.fields,
        )


RESET: Final = Control(calls.RESET, loose=True)
CLOSE: Final = Control(calls.CLOSE, loose=True)
DETACH: Final = Control(calls.CLOSE, MappingProxyType({"keep": True}))
SNAPSHOT: Final = Control(calls.SNAPSHOT)
GET_STATE: Final = Control(calls.GET_STATE)


def mark(name: str) -> Control:
    """Return the call that gives a place a name. Raises InvalidInput."""
    _check_mark(name)
    return Control(calls.MARK, {"name": name})


def rewind(to: str | int) -> Control:
    """Return the call that goes back to a mark, or to a step. Raises InvalidInput."""
    if isinstance(to, str):
        _check_mark(to)
        return Control(calls.REWIND, {"mark": to}, loose=True)
    if isinstance(to, bool) or not isinstance(to, int | np.integer):
        raise InvalidInput(f"rewind takes a mark's name or a step's number, but {to!r} came")
    if not 0 <= to <= _MOST_STEPS:
        raise InvalidInput(f"a step's number is 0 or more, but {to} came")
    return Control(calls.REWIND, {"step": int(to)}, loose=True)


def _check_mark(name: object) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= wire.MAX_ID_LENGTH:
        raise InvalidInput(
            f"a mark's name has 1 to {wire.MAX_ID_LENGTH} characters, but {str(name)[:20]!r} came"
        )
    check_name(name, "a mark's name")


class Result:
    """What a call did to a roster's N sessions: what it answered, and which rows failed."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.errors: dict[int, CarouselError] = {}
        self.done = np.zeros(len(roster.ids), np.bool_)  # (N,)
        self.applied: Counts = np.zeros(len(roster.ids), np.uint64)  # (N,)
        self.snapshots: list[bytes] = [b""] * len(roster.ids)
        self.states: dict[str, Array] = {}  # (N, *state) each

    def take(self, control: Control, rows: Ints, response: Any) -> Ints:
        """Take in the answer about rows (n,), and return those that are done: (m,).

        Raises ServerError where the answer makes no sense.
        """
        status = np.frombuffer(response.status, wire.STATUS_DTYPE)
        if len(status) not in (0, len(rows)):
            raise _broken(f"{len(status)} statuses for {len(rows)} sessions")
        done = rows
        if len(status):
            self._fail(control, rows, status)
            done = rows[status == pb.ROW_STATUS_OK]
        if control.method in (calls.MARK, calls.REWIND, calls.GET_STATE):
            applied = np.frombuffer(response.applied, wire.STEP_COUNT_DTYPE)
            if len(applied) != len(rows):
                raise _broken(f"{len(applied)} step counts for {len(rows)} sessions")
            self.applied[rows] = applied
        if control.method is calls.SNAPSHOT:
            self._take_snapshots(rows, response)
        elif control.method is calls.GET_STATE and len(done):
            self._take_states(done, response)
        self.done[done] = True
        return done

    def answered(self, rows: Ints) -> Ints:
        """Return those of rows (n,) that were done, or failed for good: (m,)."""
        return rows[[bool(self.done[row]) or row in self.errors for row in rows.tolist()]]

    def fail(self, row: int, error: CarouselError) -> None:
        """Note that nothing was done to a row."""
        self.errors[row] = error

    def _fail(self, control: Control, rows: Ints, status: Array) -> None:
        for place in np.flatnonzero(status).tolist():
            row, word = int(rows[place]), int(status[place])
            session = self.roster.ids[row]
            if self.roster.keep is not None and word in _ELSEWHERE:
                self._look_for(row, word)
            elif control.method is calls.REWIND and word == pb.ROW_STATUS_NOT_FOUND:
                self.fail(row, _no_mark(session, control.fields))
            else:
                self.fail(row, faults.from_row(word, "", session=session, applied=None))

    def _look_for(self, row: int, word: int) -> None:
        """Note that a session that outlives its server isn't there, so that it is looked for."""
        if word == pb.ROW_STATUS_STALE_HANDLE:
            session = self.roster.ids[row]
            self.roster.refused[row] = faults.from_row(word, "", session=session, applied=None)
        self.roster.unsettle(np.array([row]))

    def _take_snapshots(self, rows: Ints, response: Any) -> None:
        if len(response.snapshots) != len(rows):
            raise _broken(f"{len(response.snapshots)} snapshots for {len(rows)} sessions")
        for row, snapshot in zip(rows.tolist(), response.snapshots, strict=True):
            self.snapshots[row] = snapshot

    def _take_states(self, done: Ints, response: Any) -> None:
        sent = {tensor.name: tensor for tensor in response.states}
        for spec in self.roster.model.states:
            tensor = sent.get(spec.name)
            if tensor is None or tensor.dtype != spec.wire_dtype:
                raise _broken(f"no state {spec.name!r} of {spec.dtype.name}")
            if len(tensor.data) != len(done) * spec.size * spec.dtype.itemsize:
                raise _broken(f"{len(tensor.data)} bytes of {spec.name!r} for {len(done)} sessions")
            shape = (len(self.roster.ids), *spec.shape)
            state = self.states.setdefault(spec.name, np.zeros(shape, spec.dtype))
            state[done] = np.frombuffer(tensor.data, spec.dtype).reshape(len(done), *spec.shape)


def note(control: Control, roster: Roster, done: Ints, result: Result) -> None:
    """Note on a roster what a call did to its rows (m,)."""
    keep, method = roster.keep, control.method
    if method in (calls.RESET, calls.REWIND):
        stands = result.applied[done].astype(np.int64)  # 0 where they were reset
        roster.applied[done] = stands
        if keep is not None and method is calls.RESET:
            keep.restart(done, stands, fresh=True)
        elif keep is not None:
            keep.rewound(done, stands, control.fields.get("mark"))
    elif method is calls.MARK and keep is not None:
        keep.marked(done, result.applied[done].astype(np.int64), control.fields["name"])
    elif method is calls.CLOSE:
        how = "detached from" if control.fields.get("keep") else "closed"
        for row in done.tolist():
            session = roster.ids[row]
            roster.gone[row] = SessionClosed(f"session {session!r} was {how}", session=session)
        if keep is not None:
            keep.forget(done)


def _no_mark(session: str, fields: Mapping[str, Any]) -> MarkNotFound:
    if "mark" in fields:
        wanted = f"has no mark {fields['mark']!r}; set one with mark({fields['mark']!r}) first"
    else:
        wanted = f"has no checkpoint at or before step {fields['step']}; mark steps to go back to"
    return MarkNotFound(f"session {session!r} {wanted}; it stays where it is", session=session)


def _broken(what: str) -> ServerError:
    return ServerError(f"the server's answer cannot be read: {what}", code="INTERNAL")


def check_snapshots(saved: object, count: int) -> None:
    """Raise InvalidInput unless these are `count` snapshots, as far as that can be seen."""
    if isinstance(saved, bytes | str) or not isinstance(saved, Sequence):
        raise InvalidInput(f"expected a list of snapshots, but got {type(saved).__name__}")
    for snapshot in saved:
        if not isinstance(snapshot, bytes) or not snapshot:
            raise InvalidInput(
                "a snapshot is the bytes that snapshot() returned, but "
                f"{'no bytes' if snapshot == b'' else type(snapshot).__name__} came"
            )
    if len(saved) != count:
        raise InvalidInput(f"expected an id for each of {len(saved)} snapshots, but got {count}")
