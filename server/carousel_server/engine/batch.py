"""What goes into the engine and what comes out: the rows of one message, and answers to them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from carousel_server.engine.columns import IntColumn
from carousel_server.engine.status import RowStatus


@dataclass(eq=False, slots=True)
class Times:
    """When a message's rows ran; filled in for messages that ask for it."""

    began: float = math.nan  # the first run, in seconds on the engine's clock
    seconds: float = 0.0  # of all runs that rows of the message had a part in
    runs: int = 0

    def ran(self, began: float, seconds: float) -> None:
        """Note a run."""
        if not self.runs:
            self.began = began
        self.seconds += seconds
        self.runs += 1


@dataclass(eq=False, slots=True)
class StepBatch:
    """The rows of one message, after all that can be checked without knowing the sessions.

    Columns stay the little-endian bytes that came: those of many messages become arrays at once,
    in a cohort. A column that may be left out is empty then.
    """

    reply: Callable[[Answer], None]
    rows: int  # N
    steps: int  # sum of the lengths
    handles: bytes  # N x uint64
    inputs: tuple[bytes, ...]  # in the order of the spec; rows' steps laid end to end
    lengths: bytes = b""  # N x uint32; empty: one step each
    first_step: bytes = b""  # N x uint64; empty: not checked
    delivered: bytes = b""  # N x uint64; empty: not counted
    deadline: float = math.inf  # seconds on the engine's clock
    stream: int = 0  # who sent it: streams get even shares of a tick
    whole: bool = False  # answer all rows together, when the last one is over
    arrived: float = 0.0  # seconds on the engine's clock
    times: Times | None = None  # None: nobody asks
    nbytes: int = field(init=False)  # of the inputs

    def __post_init__(self) -> None:
        """Count the bytes."""
        self.nbytes = sum(map(len, self.inputs))


@dataclass(eq=False, slots=True)
class Answer:
    """Answers to some or all rows of a batch; columns as bytes, as in `carousel.v1.StepResponse`.

    Where many messages share a tick, their columns are made for all of them at once and cut.
    """

    done: bool
    applied: bytes  # N x uint64
    durable: bytes  # N x uint64
    lengths: bytes  # N x uint32, steps answered
    steps: int  # sum of the lengths
    outputs: tuple[bytes, ...] = ()  # in the order of the spec, [steps, ...]; empty: no row ran
    rows: bytes = b""  # N x uint32; empty: all, in order
    status: bytes = b""  # N x uint8; empty: all OK
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
    return Answer(
        done=True,
        applied=bytes(8 * batch.rows) if applied is None else applied.tobytes(),
        durable=bytes(8 * batch.rows),
        lengths=bytes(4 * batch.rows),
        steps=0,
        status=bytes([status]) * batch.rows,
        errors=[(0, why)],
        retry_after_ms=retry_after_ms,
    )
