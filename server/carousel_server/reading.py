"""States of some sessions on their way out of a device, or there already."""

from __future__ import annotations

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
