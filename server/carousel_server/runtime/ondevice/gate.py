"""Who may use a device while a graph is being captured on it: nobody else.

A capture in CUDA's global mode fails, and makes others fail, where another thread allocates, copies
or waits at the same time; so whatever does goes through the gate together, and a capture alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


class Gate:
    """Lets any number of runs in, or one capture. Nobody who is inside may go in again."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._waiting = 0  # captures that want to be alone, or are
        self._shared = _Shared(self)

    def shared(self) -> AbstractContextManager[None]:
        """Go in beside others, behind captures that wait: runs that overlap would never end."""
        return self._shared

    def enter(self) -> None:
        """Go in as `shared` does."""
        with self._changed:
            while self._waiting:
                self._changed.wait()
            self._inside += 1

    def leave(self) -> None:
        """Go out again."""
        with self._changed:
            self._inside -= 1
            if not self._inside:
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Go in when nobody is inside; whoever comes then waits."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not self._inside)
                yield
            finally:
                self._waiting -= 1
                self._changed.notify_all()


class _Shared(AbstractContextManager[None]):
    """Goes in and out; ticks do so several times, and a generator would cost them more."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        self._gate.enter()

    def __exit__(self, *_: object) -> None:
        self._gate.leave()
