"""A tick that was queued, and how its answers are made of what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from carousel_server.runtime.ondevice.exchange import Arrays
from carousel_server.runtime.ondevice.lanes import Lane, Lanes

#: Outputs by name, and which rows, `[B]`, came out not finite.
Outcome = tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_]]


class UnderWay:
    """One tick; `finish` is to be called once, whatever comes of it."""

    def __init__(
        self, lanes: Lanes, lane: Lane, collect: Callable[[Sequence[Arrays]], Outcome]
    ) -> None:
        self.seconds = 0.0  # that the device was at it, when it is finished
        self._lanes, self._lane, self._collect = lanes, lane, collect

    @property
    def done(self) -> bool:
        """Whether `finish` would not wait."""
        return self._lane.done

    def finish(self) -> Outcome:
        """Return the outcome when it is there.

        Raises what the device raises.
        """
        try:
            outcome = self._collect(self._lane.receive())
            self.seconds = self._lane.seconds
            return outcome
        finally:
            self._lanes.give(self._lane)


class Restoring(UnderWay):
    """A tick of several launches: where it fails, or rows do, states are again what they were."""

    def __init__(
        self,
        lanes: Lanes,
        lane: Lane,
        collect: Callable[[Sequence[Arrays]], Outcome],
        restore: Callable[[NDArray[np.bool_] | None], None],
    ) -> None:
        """Take over a tick; `restore` puts back the states of some of its rows, None: of all."""
        super().__init__(lanes, lane, collect)
        self._restore = restore

    def finish(self) -> Outcome:
        """Return the outcome when it is there.

        Raises what the device raises.
        """
        try:
            outcome = super().finish()
        except Exception:
            self._restore(None)
            raise
        if outcome[1].any():
            self._restore(outcome[1])
        return outcome
