"""What goes into the engine and what comes out: the rows of one message, and answers to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.columns import IntColumn
from carousel_server.engine.status import RowStatus


@dataclass(eq=False, slots=True)
class StepBatch:
    """The rows of one message, after all that can be checked without knowing the sessions."""

    reply: Callable[[Answer], None]
    handles: NDArray[np.uint64]  # (N,)
    inputs: tuple[bytes, ...]  # in the order of the spec; rows' steps laid end to end
    steps: int  # sum of the lengths
    lengths: IntColumn | None = None  # (N,); None: one step each
    first_step: NDArray[np.uint64] | None = None  # (N,); None: not checked
    deadline: float = math.inf  # seconds on the engine's clock
    stream: int = 0  # who sent it: streams get even shares of a tick
    whole: bool = False  # answer all rows together, when the last one is over
    arrived: float = 0.0  # seconds on the engine's clock

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.handles)

    @property
    def nbytes(self) -> int:
        """How many bytes of inputs the rows hold."""
        return sum(map(len, self.inputs))


@dataclass(eq=False, slots=True)
class Answer:
    """Answers to some or all rows of a batch; columns as in `carousel.v1.StepResponse`."""

    done: bool
    applied: IntColumn  # (N,)
    lengths: IntColumn  # (N,) steps answered
    outputs: Mapping[str, NDArray[np.generic]]  # [sum(lengths), ...]
    rows: IntColumn | None = None  # (N,); None: all, in order
    status: NDArray[np.uint8] | None = None  # (N,); None: all OK
    errors: list[tuple[int, str]] = field(default_factory=list)  # row, why
    retry_after_ms: int = 0


def refusal(
    batch: StepBatch,
    status: RowStatus,
    why: str,
    *,
    applied: IntColumn | None = None,
    retry_after_ms: int = 0,
) -> Answer:
    """Return the answer that gives every row of a batch the same status.

    Without `applied` [N], the counts of the rows' sessions, their handles are not valid here.
    """
    zeros = np.zeros(batch.rows, np.int64)
    return Answer(
        done=True,
        applied=zeros if applied is None else applied,
        lengths=zeros,
        outputs={},
        status=np.full(batch.rows, status, np.uint8),
        errors=[(0, why)],
        retry_after_ms=retry_after_ms,
    )
