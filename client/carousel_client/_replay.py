"""Inputs that were answered, kept for as long as a session may be put back to before them.

The server keeps the newest checkpoint at or before the count of answers that the client last told
it, and every later one. So a client that has seen `durable` D in an answer, and holds D answers, is
never put back below D: inputs of earlier steps can be forgotten. Those from there on are kept, and
sent again when the session goes on at another server.

A single session's inputs lie end to end (`Tape`); a group's lie as its calls brought them
(`Shelf`), so that a call for thousands of sessions is one record.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from carousel_client._columns import Array, Ints, gather, starts
from carousel_client._errors import ReplayFull
from carousel_client._models import ModelInfo

#: A step that no session comes to.
_NEVER = 2**62


@dataclass(slots=True)
class Ledger:
    """How many bytes of inputs a client holds to be sent again, and how many it may."""

    limit: int
    held: int = 0

    @property
    def crowded(self) -> bool:
        """Whether it is time to ask the servers what the store covers by now."""
        return self.held * 2 > self.limit

    def add(self, size: int, keep: Keep, applied: Ints) -> None:
        """Count bytes about to be held. Raises ReplayFull, and counts nothing."""
        if self.held + size > self.limit:
            keep.compact()
        if self.held + size > self.limit:
            raise ReplayFull(
                f"{self.held:,} bytes of inputs are held to be sent again if a server is lost, and "
                f"{size:,} more would pass the bound of {self.limit:,}: this session has taken in "
                f"{int(applied.max()):,} steps, of which the store covers "
                f"{int(keep.floor.min()):,}; let the server save more often, connect with a larger "
                "replay_bytes, or open with resume=False"
            )
        self.held += size


@dataclass(slots=True)
class Origin:
    """How N sessions came to be, to open them again: states to begin with, or snapshots."""

    step: Ints  # (N,)
    states: Mapping[str, Array] = field(default_factory=dict)  # (N, *state) each
    snapshots: Sequence[bytes] = ()
    version: str = ""


@dataclass(slots=True)
class Stretch:
    """Inputs of consecutive steps of rows (n,): `lengths` steps each, from `begins` on, (n,).

    The steps lie end to end in `inputs`, `(sum(lengths), *step)` each.
    """

    rows: Ints
    begins: Ints
    lengths: Ints
    inputs: dict[str, Array]


class Keep(ABC):
    """What N sessions that outlive their server hold; columns of N."""

    def __init__(self, ledger: Ledger, begins: Ints, origin: Origin | None = None) -> None:
        self.ledger = ledger
        self.origin = origin
        #: Inputs are held from this step on.
        self.floor: Ints = begins.copy()
        #: How many answers were held when the session was put back; nothing where it was not.
        self.target: Ints = np.zeros(len(begins), np.int64)
        #: Whether what is held reaches back to the session's origin.
        self.whole = np.full(len(begins), origin is not None)
        #: How often the sessions began anew or went back: what was asked before is of no use then.
        self.epoch = 0
        #: At which step marks stand, as far as they are on the sessions' present line: -1 if not.
        self.marks: dict[str, Ints] = {}

    @abstractmethod
    def took(self, block: Any, rows: Ints, lengths: Ints, applied: Ints) -> None:
        """Keep the inputs of `lengths` (n,) steps that were answered, at `applied` (n,) before."""

    @abstractmethod
    def settled(self, block: Any) -> None:
        """Note that nothing of a block will be answered any more."""

    @abstractmethod
    def stretches(self, rows: Ints, begins: Ints, ends: Ints) -> list[Stretch]:
        """Return the inputs of these steps of rows (n,), to be sent in this order."""

    @abstractmethod
    def compact(self) -> None:
        """Free what is held though nobody needs it."""

    @abstractmethod
    def _drop(self) -> None:
        """Forget inputs below `floor`."""

    @abstractmethod
    def _cut(self, rows: Ints, ends: Ints) -> None:
        """Forget inputs of steps at or after `ends` (n,)."""

    @abstractmethod
    def forget(self, rows: Ints) -> None:
        """Forget all of rows (n,): the sessions are gone."""

    def cover(self, rows: Ints, durable: Ints) -> None:
        """Forget what the store covers: steps of rows (n,) before `durable`, answered all."""
        more = durable > self.floor[rows]
        if more.any():
            rows = rows[more]
            self.floor[rows] = durable[more]
            self.whole[rows] = False
            self._drop()

    def restart(self, rows: Ints, begins: Ints, *, fresh: bool = False) -> None:
        """Hold nothing of rows (n,), and begin at `begins`; `fresh`: at their model's beginning."""
        self._cut(rows, np.zeros(len(rows), np.int64))
        self.epoch += 1
        self.floor[rows] = begins
        self.target[rows] = 0
        self.whole[rows] = False
        if fresh:
            self._fresh(rows)
        self._unmark(rows, begins)

    def rewound(self, rows: Ints, begins: Ints, mark: str | None) -> None:
        """Note that rows (n,) went back to `begins`, by a mark or to a checkpoint.

        Inputs before that are of use still if the place is on the sessions' present line.
        """
        self.epoch += 1
        self.target[rows] = 0
        on_line = begins >= self.floor[rows]
        if mark is not None:
            steps = self.marks.get(mark)
            on_line &= False if steps is None else steps[rows] == begins
        self._cut(rows[on_line], begins[on_line])
        self._unmark(rows[on_line], begins[on_line])
        if not on_line.all():
            self.restart(rows[~on_line], begins[~on_line])

    def marked(self, rows: Ints, steps: Ints, name: str) -> None:
        """Note that rows (n,) set a mark at these steps."""
        known = self.marks.setdefault(name, np.full(len(self.floor), -1, np.int64))
        known[rows] = steps

    def _fresh(self, rows: Ints) -> None:
        """Note that rows stand at the model's own beginning, from which they can be opened."""
        if self.origin is None or self.origin.states or self.origin.snapshots:
            every = len(rows) == len(self.floor)
            if not every:  # others began in another way: these can't be told from them
                return
            self.origin = Origin(np.zeros(len(self.floor), np.int64))
        self.whole[rows] = True

    def _unmark(self, rows: Ints, begins: Ints) -> None:
        for steps in self.marks.values():
            steps[rows] = np.where(steps[rows] > begins, -1, steps[rows])


class Tape(Keep):
    """The inputs of one session, end to end."""

    def __init__(
        self, model: ModelInfo, ledger: Ledger, begins: Ints, origin: Origin | None = None
    ) -> None:
        super().__init__(ledger, begins, origin)
        self._tracks = [
            (spec, spec.size * spec.dtype.itemsize, bytearray()) for spec in model.inputs
        ]
        self._step_bytes = sum(size for _, size, _ in self._tracks)
        self._begin = self._end = int(begins[0])

    def took(self, block: Any, rows: Ints, lengths: Ints, applied: Ints) -> None:  # noqa: ARG002
        begin, length = int(block.answered[0]), int(lengths[0])
        for spec, _, data in self._tracks:
            data.extend(block.inputs[spec.name][begin : begin + length].tobytes())
        self._end += length

    def settled(self, block: Any) -> None:
        self.ledger.held -= int(block.lengths[0] - block.answered[0]) * self._step_bytes

    def stretches(self, rows: Ints, begins: Ints, ends: Ints) -> list[Stretch]:
        skip, steps = int(begins[0]) - self._begin, int(ends[0] - begins[0])
        inputs = {}
        for spec, size, data in self._tracks:
            part = bytes(data[skip * size : (skip + steps) * size])
            inputs[spec.name] = np.frombuffer(part, spec.dtype).reshape(steps, *spec.shape)
        return [Stretch(rows, begins, ends - begins, inputs)]

    def compact(self) -> None:
        pass  # it always is

    def forget(self, rows: Ints) -> None:
        if len(rows):
            self._shorten(self._begin)

    def restart(self, rows: Ints, begins: Ints, *, fresh: bool = False) -> None:
        super().restart(rows, begins, fresh=fresh)
        if len(rows):
            self._begin = self._end = int(begins[0])

    def _drop(self) -> None:
        excess = int(self.floor[0]) - self._begin
        for _, size, data in self._tracks:
            del data[: excess * size]
        self.ledger.held -= excess * self._step_bytes
        self._begin += excess

    def _cut(self, rows: Ints, ends: Ints) -> None:
        if len(rows):
            self._shorten(max(int(ends[0]), self._begin))

    def _shorten(self, end: int) -> None:
        for _, size, data in self._tracks:
            del data[(end - self._begin) * size :]
        self.ledger.held -= (self._end - end) * self._step_bytes
        self._end = end


@dataclass(slots=True, eq=False)
class Record:
    """What one call brought: its rows' steps end to end, and how many were answered."""

    inputs: dict[str, Array]
    starts: Ints  # (N,) where each row's steps begin in `inputs`
    first: Ints  # (N,) the step of each row's first input
    answered: Ints  # (N,) how many of a row's inputs were answered: the block's own column
    size: int
    finished: bool = False


class Shelf(Keep):
    """The inputs of a group, call by call."""

    def __init__(self, ledger: Ledger, begins: Ints, origin: Origin | None = None) -> None:
        super().__init__(ledger, begins, origin)
        self._records: deque[Record] = deque()

    def took(self, block: Any, rows: Ints, lengths: Ints, applied: Ints) -> None:  # noqa: ARG002
        record = block.record
        if record is None:
            size = sum(array.nbytes for array in block.inputs.values())
            zeros = np.zeros(len(block.lengths), np.int64)
            record = Record(block.inputs, block.starts, zeros, block.answered, size)
            block.record = record
            self._records.append(record)
        record.first[rows] = applied - block.answered[rows]

    def settled(self, block: Any) -> None:
        if block.record is None:
            self.ledger.held -= sum(array.nbytes for array in block.inputs.values())
        else:
            block.record.finished = True
            self._drop()

    def stretches(self, rows: Ints, begins: Ints, ends: Ints) -> list[Stretch]:
        found = []
        for record in self._records:
            first, answered = record.first[rows], record.answered[rows]
            begin, end = np.maximum(begins, first), np.minimum(ends, first + answered)
            lengths = np.where(answered > 0, np.maximum(end - begin, 0), 0)
            some = np.flatnonzero(lengths)
            if not len(some):
                continue
            at = record.starts[rows[some]] + (begin - first)[some]
            inputs = {name: gather(flat, at, lengths[some]) for name, flat in record.inputs.items()}
            found.append(Stretch(rows[some], begin[some], lengths[some], inputs))
        return found

    def compact(self) -> None:
        floor = self.floor
        for record in self._records:
            if not record.finished:
                continue
            begin: Ints = np.maximum(floor, record.first)
            left: Ints = np.maximum(record.first + record.answered - begin, 0)
            if left.sum() * 2 > record.answered.sum():
                continue  # not worth it
            at = record.starts + (begin - record.first)
            record.inputs = {
                name: gather(flat, at, left).copy() for name, flat in record.inputs.items()
            }
            record.starts, record.first, record.answered = starts(left), begin, left
            size = sum(array.nbytes for array in record.inputs.values())
            self.ledger.held += size - record.size
            record.size = size

    def forget(self, rows: Ints) -> None:
        self.floor[rows] = _NEVER
        self._drop()

    def _drop(self) -> None:
        floor = self.floor
        while self._records and self._records[0].finished:
            record = self._records[0]
            if ((record.answered > 0) & (record.first + record.answered > floor)).any():
                return
            self.ledger.held -= record.size
            self._records.popleft()

    def _cut(self, rows: Ints, ends: Ints) -> None:
        for record in self._records:
            answered = np.clip(ends - record.first[rows], 0, record.answered[rows])
            record.answered = record.answered.copy()  # the block's own count is another matter
            record.answered[rows] = answered
        self._drop()


def keeper(model: ModelInfo, ledger: Ledger, begins: Ints, origin: Origin | None = None) -> Keep:
    """Return what keeps the inputs of sessions that stand at `begins` (N,)."""
    if len(begins) == 1:
        return Tape(model, ledger, begins, origin)
    return Shelf(ledger, begins, origin)
