"""What the engine asks of a model; `runtime/` has it, and tests bring their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from carousel_server.reading import Here, Reading
from carousel_server.spec import ModelSpec

Arrays = Mapping[str, NDArray[np.generic]]
#: Outputs by name, and which rows, `[B]`, came out not finite.
Outcome = tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_]]


class Runner(Protocol):
    """A model with the states of `slots` sessions; one thread at a time may call it."""

    @property
    def spec(self) -> ModelSpec:
        """Shapes, dtypes and states."""

    @property
    def slots(self) -> int:
        """How many sessions' states it holds, in slots 1 to `slots`; slot 0 is scratch."""

    def run(self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays) -> Outcome:
        """Advance the states in `slots` [B] by `lengths` [B] steps.

        Inputs and outputs are `[T, B, ...]` with a time axis, `[B, ...]` without. The second
        result, `[B]`, marks rows whose state was left as it was, because it came out not finite.

        Raises:
            RunError: nothing was written.

        """

    def write(self, slots: NDArray[np.int64], states: Arrays) -> None:
        """Put states, `[N, ...]` each, into `slots` [N]."""

    def read(self, slots: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """Return the states in `slots` [N], `[N, ...]` each."""


class Running(Protocol):
    """A run that was begun."""

    @property
    def done(self) -> bool:
        """Whether `finish` would not wait."""

    def finish(self) -> Outcome:
        """Return what `Runner.run` would have; to be called once.

        Raises:
            RunError: nothing was written.

        """


@runtime_checkable
class Overlapping(Runner, Protocol):
    """A model on a device that works by itself: it takes more to do while it is at something.

    All is done in the order in which it was asked for, as far as the same slots go.
    """

    def start(
        self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays
    ) -> Running:
        """Begin a run; nobody else's slots until it is finished.

        Raises:
            RunError: nothing was written.

        """

    def copy(self, slots: NDArray[np.int64]) -> Reading:
        """Return the states in `slots` [N] as they are after what was begun so far."""


def copy_states(runner: Runner, slots: NDArray[np.int64]) -> Reading:
    """Return the states in `slots` [N], without a wait where the runner needs none."""
    return runner.copy(slots) if isinstance(runner, Overlapping) else Here(runner.read(slots))
