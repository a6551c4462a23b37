"""What the engine knows of a model: shapes, dtypes and states, without ONNX and without gRPC."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output, by what a single step of a single session holds."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    minimum: int | None = None
    maximum: int | None = None

    @property
    def step_bytes(self) -> int:
        """Bytes of one step."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def harmless(self) -> int:
        """0, or the value next to it that the input may hold: for runs that nobody asked for."""
        low = 0 if self.minimum is None else max(0, self.minimum)
        return low if self.maximum is None else min(low, self.maximum)


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One state: `name` goes into the graph, `output` comes out; `shape` is one session's."""

    name: str
    output: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    initial: NDArray[np.generic]  # shape

    @property
    def nbytes(self) -> int:
        """Bytes that one session's state takes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as the engine sees it.

    With `time_axis`, inputs and outputs of a run are `[T, B, ...]`, and rows may differ in length
    where `sequence_lens` names an input; without it they are `[B, ...]`, one step a run.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    time_axis: bool
    sequence_lens: str = ""
    max_batch: int = 0  # 0: no bound

    @property
    def state_bytes(self) -> int:
        """Bytes of state that one session holds."""
        return sum(state.nbytes for state in self.states)

    @property
    def ragged(self) -> bool:
        """Whether rows of different lengths may share a run."""
        return bool(self.sequence_lens)
