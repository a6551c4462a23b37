"""What the engine asks of a model; `runtime/model.py` has it, and tests bring their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carousel_server.spec import ModelSpec

Arrays = Mapping[str, NDArray[np.generic]]


class Runner(Protocol):
    """A model with the states of `slots` sessions; one thread at a time may call it."""

    @property
    def spec(self) -> ModelSpec:
        """Shapes, dtypes and states."""

    @property
    def slots(self) -> int:
        """How many sessions' states it holds, in slots 1 to `slots`; slot 0 is scratch."""

    def run(
        self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays
    ) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_]]:
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
