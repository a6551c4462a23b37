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
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from carousel_client._arrays import Chunks, Form
from carousel_client._columns import Array, Counts, Ints, starts
from carousel_client._errors import CarouselError
from carousel_client._models import ModelInfo

if TYPE_CHECKING:
    from carousel_client._hosts import Host
    from carousel_client._replay import Keep, Record

FIRST_ROW: Ints = np.zeros(1, np.int64)
FIRST_ROW.setflags(write=False)
NO_ROWS: Ints = np.zeros(0, np.int64)


def nobody() -> None:
    """Stand in for a waiter that is not there, or gone."""


#: In `Roster.at`: the row's handle can't be used any more, or is not known yet.
ADRIFT: Final = -1


@dataclass(slots=True, eq=False, weakref_slot=True)
class Roster:
    """N sessions of one model and version: ids, and columns `(N,)` of handles and step counts.

    `applied` counts the steps whose answers the client holds; while a session that was put back is
    on its way there again, it counts the steps that its state has.
    """

    model: ModelInfo
    ids: Sequence[str]
    handles: Counts
    applied: Ints
    #: Where the sessions are: each row's host by number, or ADRIFT.
    at: Ints
    #: The host of all rows, None where they are at several or some are adrift.
    host: Host | None = None
    #: What sessions that outlive their server hold; None for those that don't.
    keep: Keep | None = None
    blocks: deque[Waiting] = field(default_factory=deque)
    #: Rows that can't be stepped any more, and why.
    gone: dict[int, CarouselError] = field(default_factory=dict)
    #: Nothing is sent before this time: the server's queue was full.
    not_before: float = 0.0
    #: The numbers of the hosts in whose queues it stands.
    queued: set[int] = field(default_factory=set)
    #: Since when somebody waits for it to be at a server again.
    away_since: float | None = None
    #: Where rows were before they went adrift, and where others said they are.
    last: dict[int, int] = field(default_factory=dict)
    hints: dict[int, str] = field(default_factory=dict)
    #: Whether a call that puts sessions back failed because the store was away.
    owing: bool = False
    #: Rows whose handle was refused: taken by somebody else, unless the server is another one.
    refused: dict[int, CarouselError] = field(default_factory=dict)

    def place(self, rows: Ints, host: Host) -> None:
        """Note that rows (n,) are at a host."""
        self.at[rows] = host.number
        self.owing = False
        for row in rows.tolist() if self.last or self.hints or self.refused else ():
            self.last.pop(row, None)
            self.hints.pop(row, None)
            self.refused.pop(row, None)
        elsewhere = self.at != host.number
        if self.gone:
            elsewhere[list(self.gone)] = False
        self.host = None if elsewhere.any() else host

    def unsettle(self, rows: Ints) -> None:
        """Note that the handles of rows (n,) can't be used any more."""
        if not len(rows):
            return
        for row in rows.tolist():
            if self.at[row] != ADRIFT:
                self.last[row] = int(self.at[row])
        self.at[rows] = ADRIFT
        self.host = None

    def held(self, rows: Ints) -> Ints:
        """Return how many answers of rows (n,) the client holds: (n,)."""
        if self.keep is None:
            return self.applied[rows]
        return np.maximum(self.applied[rows], self.keep.target[rows])

    def flying(self) -> npt.NDArray[np.bool_]:
        """Return which rows have a chunk on its way: (N,)."""
        flying = np.zeros(len(self.ids), np.bool_)
        for block in self.blocks:
            if isinstance(block, Block):
                flying |= block.inflight
        return flying


class Block:
    """The chunks of one call, all rows' steps laid end to end; and their answers, as they come."""

    __slots__ = (
        "abandoned",
        "alone",
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
        "record",
        "replay",
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
        replay: bool = False,
    ) -> None:
        rows = len(roster.ids)
        self.roster = roster
        self.form: Form = chunks.form
        self.inputs = chunks.inputs
        self.lengths = chunks.lengths  # (N,)
        self.starts: Ints = starts(chunks.lengths) if rows > 1 else FIRST_ROW  # (N,)
        self.answered: Ints = np.zeros(rows, np.int64)  # (N,)
        self.inflight = np.zeros(rows, np.bool_)  # (N,)
        self.failures: dict[int, CarouselError] = {}
        self.outputs: dict[str, Array] = {}
        # Rows neither finished nor failed.
        self.open = int(np.count_nonzero(chunks.lengths) if rows > 1 else chunks.lengths[0] > 0)
        self.timeout = timeout
        self.deadline = deadline
        self.busy_since: float | None = None
        self.abandoned = False
        self.alone = False  # it is sent by itself, and joined with no other
        self.carrier: Block | None = None  # the longer block that this one was joined into
        self.parts: Sequence[Block] = ()  # the blocks that were joined into this one
        self.replay = replay  # sent again: answered before, and nobody waits for it
        self.record: Record | None = None  # what a group keeps of it
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

    def take_apart(self) -> None:
        """Put the blocks that were joined into this one in its place again, each to go alone."""
        blocks = self.roster.blocks
        place = blocks.index(self)
        del blocks[place]
        for number, part in enumerate(self.parts):
            part.carrier, part.alone = None, True
            blocks.insert(place + number, part)

    def output(self, name: str, like: Array) -> Array:
        """Return the buffer for an output's answers, `(S, *step)`, made on its first use."""
        if name not in self.outputs:
            steps = int(self.lengths.sum())
            self.outputs[name] = np.empty((steps, *like.shape[1:]), like.dtype)
        return self.outputs[name]

    def flat_outputs(self) -> Mapping[str, Array]:
        """Return every output's buffer `(S, *step)`; an empty one where nothing was answered."""
        if len(self.outputs) == len(self.roster.model.outputs):
            return self.outputs
        steps = int(self.lengths.sum())
        for spec in self.roster.model.outputs:
            self.outputs.setdefault(spec.name, np.empty((steps, *spec.shape), spec.dtype))
        return self.outputs


@dataclass(slots=True, eq=False)
class Barrier:
    """A control call that waits for the roster's blocks before it, and holds up those after it.

    It is entered once they are answered and the sessions are at a server. With `loose` they may
    have been put back there: the call does away with where they stand.
    """

    roster: Roster
    loose: bool = False
    entered: bool = False
    failure: CarouselError | None = None
    done: Callable[[], None] = nobody


Waiting: TypeAlias = Block | Barrier
