"""States of some sessions on their way out of a device, or there already."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

States = Mapping[str, NDArray[np.generic]]


class Reading(Protocol):
    """States as they were when it was asked for; what steps do later is not in them.

    Any thread may call it, and more than once.
    """

    @property
    def nbytes(self) -> int:
        """Bytes of all states."""

    @property
    def done(self) -> bool:
        """Whether `get` would not wait."""

    def get(self) -> States:
        """Return the states, `[N, ...]` each by name, when they are there."""


class Here:
    """States that are there."""

    done = True

    def __init__(self, states: States) -> None:
        self._states = states

    @property
    def nbytes(self) -> int:
        """Bytes of all states."""
        return sum(values.nbytes for values in self._states.values())

    def get(self) -> States:
        """Return them."""
        return self._states


class Partly:
    """States of which some are there and the others are read."""

    def __init__(
        self,
        states: Mapping[str, NDArray[np.generic]],
        rows: NDArray[np.bool_],
        reading: Reading,
    ) -> None:
        """Take over `states`, `[N, ...]` each, of which those `rows` [N] are still to come."""
        self.nbytes = sum(values.nbytes for values in states.values())
        self._states, self._rows = states, rows
        self._reading: Reading | None = reading
        self._lock = threading.Lock()

    @property
    def done(self) -> bool:
        """Whether `get` would not wait."""
        reading = self._reading
        return reading is None or reading.done

    def get(self) -> States:
        """Return the states when all of them are there."""
        with self._lock:
            if self._reading is not None:
                for name, values in self._reading.get().items():
                    self._states[name][self._rows] = values
                self._reading = None
            return self._states
