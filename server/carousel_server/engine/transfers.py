"""Control calls that take states out of sessions, put others in, and keep what must not be lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.checkpoints import Gathered, Kept
from carousel_server.engine.columns import IntColumn
from carousel_server.engine.controls import ByHandle
from carousel_server.engine.marks import Mark
from carousel_server.engine.sessions import Ended, Sessions
from carousel_server.reading import States

_NONE = np.zeros(0, np.int64)

#: The place where sessions begin: their model's initial state.
BEGINNING = Mark(0, {})


def copy_out(handles: NDArray[np.uint64]) -> ByHandle[Gathered]:
    """Return the call that copies the states of sessions; they count as saved nowhere."""

    def act(sessions: Sessions, entries: IntColumn) -> Gathered:
        return sessions.checkpoints.read(entries)

    return ByHandle(handles, act)


def mark(handles: NDArray[np.uint64], name: str) -> ByHandle[Gathered]:
    """Return the call that gives the places of sessions a name; what it gives is to be saved."""

    def act(sessions: Sessions, entries: IntColumn) -> Gathered:
        gathered = sessions.checkpoints.read(entries, mark=name)
        sessions.checkpoints.stored[entries] |= gathered.matters
        sessions.marks.put(entries, name, gathered.steps, gathered.states)
        return gathered

    return ByHandle(handles, act)


@dataclass(frozen=True, slots=True)
class Rewound:
    """Which of the sessions, `[N]`, had where to go back to, and what is to be saved of them."""

    found: NDArray[np.bool_]
    gathered: Gathered


def rewind_to_mark(handles: NDArray[np.uint64], name: str) -> ByHandle[Rewound]:
    """Return the call that puts sessions back to their mark of a name, those that have one."""

    def act(sessions: Sessions, entries: IntColumn) -> Rewound:
        marks = [sessions.marks.get(entry, name) for entry in entries.tolist()]
        return _put_back(sessions, entries, marks)

    return ByHandle(handles, act)


def put_back(
    handles: NDArray[np.uint64], places: Sequence[Mark | None], *, or_begin: bool = False
) -> ByHandle[Rewound]:
    """Return the call that puts sessions to states that were kept; None: to nowhere.

    `places` are those of the handles, in order. A place without states is the initial one; with
    `or_begin` the sessions that began there go back to it where they have no other place.
    """

    def act(sessions: Sessions, entries: IntColumn) -> Rewound:
        by_entry = dict(zip(sessions.table.resolve(handles)[0].tolist(), places, strict=True))
        began = sessions.checkpoints.began_as_model(entries) & or_begin
        chosen = [
            by_entry[entry] or (BEGINNING if begin else None)
            for entry, begin in zip(entries.tolist(), began.tolist(), strict=True)
        ]
        return _put_back(sessions, entries, chosen)

    return ByHandle(handles, act)


def begun(handles: NDArray[np.uint64]) -> ByHandle[Gathered]:
    """Return the call that copies the states that sessions begin with, to be saved."""

    def act(sessions: Sessions, entries: IntColumn) -> Gathered:
        return sessions.checkpoints.gather(entries)

    return ByHandle(handles, act)


def leave(handles: NDArray[np.uint64]) -> ByHandle[Gathered]:
    """Return the call that makes the handles of sessions invalid before they go elsewhere.

    What it gives is to be saved; `GiveUp` ends the sessions here when it is.
    """

    def act(sessions: Sessions, entries: IntColumn) -> Gathered:
        return sessions.leave(entries)

    return ByHandle(handles, act)


def _put_back(sessions: Sessions, entries: IntColumn, places: Sequence[Mark | None]) -> Rewound:
    found = np.array([place is not None for place in places], np.bool_)
    steps = np.array([place.step for place in places if place is not None], np.int64)
    there = [place for place in places if place is not None]
    states: States | None = None
    if any(place.states for place in there):
        initial = {state.name: state.initial for state in sessions.residency.states}
        states = {
            name: np.stack([place.states.get(name, value) for place in there])
            for name, value in initial.items()
        }
    return Rewound(found, sessions.put_back(entries[found], steps, states))


@dataclass(eq=False, slots=True)
class Acknowledge:
    """Takes note of what became of gathered states; gives up sessions that others have by now."""

    gathered: Gathered
    kept: Sequence[bool]
    then: Kept | None = None

    def prepare(self, sessions: Sessions) -> IntColumn:  # noqa: ARG002 - it tells of the past
        """Wait for nobody."""
        return _NONE

    def run(self, sessions: Sessions) -> Ended:
        """Note it; give the sessions that this server has lost."""
        lost = sessions.checkpoints.acknowledge(self.gathered, self.kept)
        if self.then:
            self.then(self.kept)
        return sessions.give_up(lost) if len(lost) else Ended([], [], [])


@dataclass(eq=False, slots=True)
class SetTokens:
    """Notes with which tokens new sessions may be written."""

    handles: NDArray[np.uint64]
    tokens: IntColumn

    def prepare(self, sessions: Sessions) -> IntColumn:  # noqa: ARG002 - nobody has them yet
        """Wait for nobody."""
        return _NONE

    def run(self, sessions: Sessions) -> None:
        """Note them."""
        entries, status = sessions.table.resolve(self.handles)
        sessions.checkpoints.token[entries[status == 0]] = self.tokens[status == 0]
        sessions.checkpoints.stored[entries[status == 0]] = True


@dataclass(eq=False, slots=True)
class SaveLate:
    """Saves the sessions that are due because a while has passed."""

    def prepare(self, sessions: Sessions) -> IntColumn:  # noqa: ARG002 - as they are now
        """Wait for nobody."""
        return _NONE

    def run(self, sessions: Sessions) -> bool:
        """Gather some of them; return whether more are due."""
        return sessions.checkpoints.save_late()


@dataclass(eq=False, slots=True)
class Gather:
    """Copies the states of the sessions of some ids, to be saved; gives None where none is here."""

    ids: Sequence[str]

    def prepare(self, sessions: Sessions) -> IntColumn:  # noqa: ARG002 - as they are now
        """Wait for nobody."""
        return _NONE

    def run(self, sessions: Sessions) -> Gathered | None:
        """Gather them."""
        entries = sessions.find_open(self.ids)
        return sessions.checkpoints.gather(entries) if len(entries) else None


@dataclass(eq=False, slots=True)
class Leave:
    """Does what `leave` does to the sessions of some ids; gives None where none is here."""

    ids: Sequence[str]

    def prepare(self, sessions: Sessions) -> IntColumn:
        """Wait for the sessions' rows."""
        return sessions.find_open(self.ids)

    def run(self, sessions: Sessions) -> Gathered | None:
        """Gather them."""
        entries = sessions.find_open(self.ids)
        if not len(entries):
            return None
        return sessions.leave(entries)


@dataclass(eq=False, slots=True)
class Ids:
    """Gives the ids of all open sessions."""

    def prepare(self, sessions: Sessions) -> IntColumn:  # noqa: ARG002 - as they are now
        """Wait for nobody."""
        return _NONE

    def run(self, sessions: Sessions) -> list[str]:
        """Collect them."""
        return sessions.ids(sessions.table.entries())


@dataclass(eq=False, slots=True)
class GiveUp:
    """Ends sessions here that have left, were saved, and that nobody has taken up since.

    Gives `Ended`.
    """

    left: Gathered

    def prepare(self, sessions: Sessions) -> IntColumn:  # noqa: ARG002 - nobody can step them
        """Wait for nobody."""
        return _NONE

    def run(self, sessions: Sessions) -> Ended:
        """End them."""
        entries = self.left.entries
        untouched = sessions.table.handles(entries) == self.left.handles
        return sessions.give_up(entries[untouched])


@dataclass(eq=False, slots=True)
class RestoreMarks:
    """Puts back marks that were kept with sessions, by their ids."""

    marks: Sequence[tuple[str, str, Mark]]  # id, name, mark

    def prepare(self, sessions: Sessions) -> IntColumn:  # noqa: ARG002 - they were just opened
        """Wait for nobody."""
        return _NONE

    def run(self, sessions: Sessions) -> None:
        """Put them back."""
        for session, name, place in self.marks:
            for entry in sessions.find_open([session]).tolist():
                sessions.marks.restore(entry, name, place)
