"""Places in sessions that were given names, to go back to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from carousel_server.engine.columns import Arrays, IntColumn
from carousel_server.errors import NoRoom
from carousel_server.reading import States

_MOST = 16  # a session; each takes as much host memory as a parked state


@dataclass(frozen=True, slots=True)
class Mark:
    """A state of one session, by name without the batch axis, and its step count."""

    step: int
    states: Arrays


class Marks:
    """The marks of one model's sessions. Whoever has the engine's turn calls it."""

    def __init__(self) -> None:
        self._marks: dict[int, dict[str, Mark]] = {}  # by entry, then by name

    def put(self, entries: IntColumn, name: str, steps: IntColumn, states: States) -> None:
        """Name the places where sessions stand, in all of them or in none.

        Raises:
            NoRoom: one of the sessions has as many marks as it may.

        """
        for entry in entries.tolist():
            own = self._marks.get(entry, {})
            if name not in own and len(own) >= _MOST:
                raise NoRoom(f"a session has at most {_MOST} marks", retry_after_ms=0)
        for row, (entry, step) in enumerate(zip(entries.tolist(), steps.tolist(), strict=True)):
            copies = {key: np.array(values[row]) for key, values in states.items()}
            self._marks.setdefault(entry, {})[name] = Mark(step, copies)

    def get(self, entry: int, name: str) -> Mark | None:
        """Return a mark of a session, if it has one of that name."""
        return self._marks.get(entry, {}).get(name)

    def restore(self, entry: int, name: str, mark: Mark) -> None:
        """Put back a mark that was kept elsewhere."""
        self._marks.setdefault(entry, {})[name] = mark

    def all(self, entry: int) -> dict[str, Mark]:
        """Return the marks of a session by name."""
        return dict(self._marks.get(entry, {}))

    def release(self, entries: IntColumn) -> None:
        """Forget the marks of sessions."""
        if self._marks:
            for entry in entries.tolist():
                self._marks.pop(entry, None)
