"""Sessions that step together, and the steps they wait for: data, and what follows from it alone.

A roster is an ordering domain: its blocks are answered in the order they were submitted, and of
each of its sessions at most one chunk is on its way. What is submitted meanwhile waits, and where
the roster is a single session, travels on as one longer chunk (`_joining`). So `first_step` is
always a count that the server has confirmed, and nothing is taken back when a chunk fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from carousel_client._arrays import Chunks, Form
from carousel_client._columns import Array, Counts, Ints, starts
from carousel_client._errors import CarouselError
from carousel_client._models import ModelInfo

FIRST_ROW: Ints = np.zeros(1, np.int64)
FIRST_ROW.setflags(write=False)
NO_ROWS: Ints = np.zeros(0, np.int64)


def nobody() -> None:
    """Stand in for a waiter that is not there, or gone."""


@dataclass(slots=True, eq=False)
class Roster:
    """N sessions of one model and version: ids, and columns `(N,)` of handles and step counts."""

    model: ModelInfo
    server_id: int
    ids: Sequence[str]
    handles: Counts
    applied: Counts
    blocks: deque[Waiting] = field(default_factory=deque)
    #: Rows that can't be stepped any more, and why.
    gone: dict[int, CarouselError] = field(default_factory=dict)
    #: Rows were on their way when the connection broke: attach before anything else.
    uncertain: bool = False
    #: Nothing is sent before this time: the server's queue was full.
    not_before: float = 0.0
    #: Stands in a queue of the exchange's.
    queued: bool = False


class Block:
    """The chunks of one call, all rows' steps laid end to end; and their answers, as they come."""

    __slots__ = (
        "abandoned",
        "answered",
        "busy_since",
        "carrier",
        "deadline",
        "done",
        "failures",
        "form",
        "inflight",
        "inputs",
        "lengths",
        "open",
        "outputs",
        "parts",
        "roster",
        "starts",
        "timeout",
    )

    def __init__(
        self,
        roster: Roster,
        chunks: Chunks,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> None:
        rows = len(chunks.lengths)
        self.roster = roster
        self.form: Form = chunks.form
        self.inputs = chunks.inputs
        self.lengths = chunks.lengths  # (N,)
        self.starts: Ints = starts(chunks.lengths) if rows > 1 else FIRST_ROW  # (N,)
        self.answered: Ints = np.zeros(rows, np.int64)  # (N,)
        self.inflight = np.zeros(rows, np.bool_)  # (N,)
        self.failures: dict[int, CarouselError] = {}
        self.outputs: dict[str, Array] = {}
        self.open = int(np.count_nonzero(chunks.lengths))  # rows neither finished nor failed
        self.timeout = timeout
        self.deadline = deadline
        self.busy_since: float | None = None
        self.abandoned = False
        self.carrier: Block | None = None  # the longer block that this one was joined into
        self.parts: Sequence[Block] = ()  # the blocks that were joined into this one
        self.done: Callable[[], None] = nobody

    def idle(self) -> Ints:
        """Return the rows that have steps left and none on their way: (n,)."""
        if len(self.lengths) == 1:  # most blocks: worth the microseconds
            if self.failures or self.inflight[0] or self.answered[0] >= self.lengths[0]:
                return NO_ROWS
            return FIRST_ROW
        idle = (self.answered < self.lengths) & ~self.inflight
        if self.failures:
            idle[list(self.failures)] = False
        return np.flatnonzero(idle)

    @property
    def untouched(self) -> bool:
        """Whether nothing of the block was sent, answered or failed."""
        return not (self.failures or self.inflight.any() or self.answered.any())

    def output(self, name: str, like: Array) -> Array:
        """Return the buffer for an output's answers, `(S, *step)`, made on its first use."""
        if name not in self.outputs:
            steps = int(self.lengths.sum())
            self.outputs[name] = np.empty((steps, *like.shape[1:]), like.dtype)
        return self.outputs[name]

    def flat_outputs(self) -> Mapping[str, Array]:
        """Return every output's buffer `(S, *step)`; an empty one where nothing was answered."""
        steps = int(self.lengths.sum())
        for spec in self.roster.model.outputs:
            self.outputs.setdefault(spec.name, np.empty((steps, *spec.shape), spec.dtype))
        return self.outputs


@dataclass(slots=True, eq=False)
class Barrier:
    """A control call that waits for the roster's blocks before it, and holds up those after it."""

    roster: Roster
    entered: bool = False
    failure: CarouselError | None = None
    done: Callable[[], None] = nobody


Waiting: TypeAlias = Block | Barrier
