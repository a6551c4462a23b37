"""The rows of all messages that arrived during one tick, merged into one set of columns.

Merging them makes the cost of a tick grow with its rows and hardly with its messages: handles are
checked, tickets drawn and inputs packed with one numpy expression for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine import packing
from carousel_server.engine.batch import Answer, StepBatch
from carousel_server.engine.columns import COUNT, LENGTH, Arrays, IntColumn, join, spans
from carousel_server.spec import ModelSpec

#: An expected step: the row does not say at which count it begins.
UNCHECKED = -1
_MAX_REASONS = 8  # words for so many failed rows of a message; the status says the rest
_ONE_STEP = b"\1\0\0\0"  # in a column of lengths
_NO_COUNT = bytes(8)  # in a column of counts
_NOT_SAID = b"\xff" * 8  # the same, where 0 would say something


class Cohort:
    """Columns over the rows of some messages, and what became of each row.

    `epoch` is the table's when the handles were last found valid.
    """

    def __init__(self, batches: Sequence[StepBatch], spec: ModelSpec) -> None:
        self.batches = batches
        counts = [batch.rows for batch in batches]
        self.first_row = [0, *accumulate(counts)]  # of each message, and behind the last
        self.rows = rows = self.first_row[-1]
        self.handles = np.frombuffer(_joined([batch.handles for batch in batches]), COUNT)
        # Whether every row is a single step: then a row's steps need no look-up.
        self.single = not any(batch.lengths for batch in batches)
        self.lengths, self.starts = _lengths(batches, self.single)
        self.first_step, self.unchecked = _first_steps(batches)
        self.deadline = _deadlines(batches, counts)
        self.delivered = _delivered(batches)
        self.inputs = _inputs(batches, spec)
        self.outputs: Arrays = {}
        self._outputs = spec.outputs
        self.steps = len(next(iter(self.inputs.values())))

        self.entries: IntColumn
        self.tickets: IntColumn
        self.entries, self.tickets, self.progress, self.applied, self.durable = np.zeros(
            (5, rows), np.int64
        )
        self.status = np.zeros(rows, np.uint8)
        self.pending = np.arange(rows)  # rows that are not over
        self._over = np.zeros(rows, np.bool_)
        self._away: NDArray[np.bool_] | None = None  # rows in runs that were begun; None: none
        self.turn = self.pending[:0]  # rows that may run now
        self.faults: Sequence[tuple[int, str]] = ()  # rows whose inputs can't be run, and why
        self.faulty = False  # whether a row has a status before it has run
        self.epoch = -1
        self.timed = any(batch.times is not None for batch in batches)
        self._unanswered = counts
        self._finished: list[IntColumn] = []
        self._reasons: dict[int, str] = {}

    def ready(self, head: IntColumn) -> IntColumn:
        """Return the rows whose turn it is."""
        rows = self.pending
        if self._away is not None:
            rows = rows[~self._away[rows]]
        turn = head[self.entries[rows]] == self.tickets[rows]
        return rows if turn.all() else rows[turn]

    def send_away(self, rows: IntColumn) -> None:
        """Note that rows are in a run: it is nobody's turn to judge or choose them."""
        if self._away is None:
            self._away = np.zeros(self.rows, np.bool_)
        self._away[rows] = True

    def bring_back(self, rows: IntColumn) -> None:
        """Note that their run is over."""
        if self._away is not None:
            self._away[rows] = False
            if not self._away.any():
                self._away = None

    def streams(self, rows: IntColumn) -> IntColumn:
        """Return who sent the rows."""
        of_batch = np.array([batch.stream for batch in self.batches])
        return of_batch[np.searchsorted(self.first_row, rows, side="right") - 1]

    def in_order(self, rows: IntColumn, applied: IntColumn) -> bool:
        """Return whether all rows go on where their sessions stand, or do not say where."""
        if self.first_step is None:
            return True
        same = self._next_step(rows) == applied.view(np.uint64)
        if self.unchecked is not None:
            same |= self.unchecked[rows]
        return bool(same.all())

    def expected_step(self, rows: IntColumn) -> IntColumn:
        """Return the count that each row's session must stand at; UNCHECKED: it does not say."""
        if self.first_step is None:
            return np.full(len(rows), UNCHECKED)
        # A count beyond int64 can't be right, and stays beyond every session's count when cut.
        expected = np.minimum(self._next_step(rows), np.uint64(2**62)).astype(np.int64)
        if self.unchecked is not None:
            expected[self.unchecked[rows]] = UNCHECKED
        return expected

    def _next_step(self, rows: IntColumn) -> NDArray[np.uint64]:
        assert self.first_step is not None
        first = self.first_step[rows]
        return first if self.single else first + self.progress[rows].view(np.uint64)

    def finish(self, rows: IntColumn, applied: IntColumn, durable: IntColumn) -> None:
        """Note that rows are over, with whatever `status` and `progress` they have."""
        self.applied[rows], self.durable[rows] = applied, durable
        self._finished.append(rows)
        if len(rows) == len(self.pending):
            self.pending = self.pending[:0]
        else:
            self._over[rows] = True
            self.pending = self.pending[~self._over[self.pending]]

    def ran(self, rows: IntColumn, began: float, seconds: float) -> None:
        """Tell the messages that ask for it of a run that `rows` had a part in."""
        which = np.searchsorted(self.first_row, rows, side="right") - 1
        for index in np.unique(which).tolist():
            if times := self.batches[index].times:
                times.ran(began, seconds)

    def explain(self, row: int, why: str) -> None:
        """Keep the reason of a failed row, unless a better one is kept already."""
        self._reasons.setdefault(row, why)

    def store(self, starts: IntColumn, steps: IntColumn, values: Arrays) -> None:
        """Keep the outputs `[T, B, ...]` of pieces that begin at `starts` and have `steps`."""
        for name, value in values.items():
            if name not in self.outputs:
                if len(value) == 1 and len(starts) == self.rows == self.steps:
                    self.outputs[name] = value[0]  # all of the cohort at once
                    continue
                self.outputs[name] = np.zeros((self.steps, *value.shape[2:]), value.dtype)
            packing.unpack(self.outputs[name], starts, steps, value)

    def answers(self) -> Iterator[tuple[StepBatch, Answer]]:
        """Yield answers for the rows that are over and not answered yet."""
        if not self._finished:
            return
        rows = join(self._finished)
        self._finished = []
        if len(rows) == self.rows:
            yield from self._whole_answers()
            return
        which = np.searchsorted(self.first_row, rows, side="right") - 1
        for index in np.unique(which).tolist():
            batch, over = self.batches[index], rows[which == index]
            if batch.whole and len(over) < self._unanswered[index]:
                self._finished.append(over)  # till the others are over too
            else:
                yield batch, self._partial_answer(index, np.sort(over))

    def _whole_answers(self) -> Iterator[tuple[StepBatch, Answer]]:
        """Yield the answers of a cohort that is over all at once: its columns, cut by messages."""
        failed = bool(self.status.any())
        applied, durable = self.applied.tobytes(), self.durable.tobytes()
        lengths = _ONE_STEP * self.rows if self.single else self.lengths.astype(LENGTH).tobytes()
        outputs = [
            (self.outputs[tensor.name].tobytes(), tensor.step_bytes)
            for tensor in self._outputs
            if tensor.name in self.outputs
        ]
        for index, batch in enumerate(self.batches):
            low, high = self.first_row[index], self.first_row[index + 1]
            if failed and self.status[low:high].any():
                yield batch, self._partial_answer(index, np.arange(low, high))
                continue
            first = low if self.single else int(self.starts[low])
            last = first + batch.steps
            yield (
                batch,
                Answer(
                    done=True,
                    applied=applied[8 * low : 8 * high],
                    durable=durable[8 * low : 8 * high],
                    lengths=lengths[4 * low : 4 * high],
                    steps=batch.steps,
                    outputs=tuple([data[size * first : size * last] for data, size in outputs]),
                ),
            )

    def _partial_answer(self, index: int, rows: IntColumn) -> Answer:
        low = self.first_row[index]
        self._unanswered[index] -= len(rows)
        status = self.status[rows]
        answered = self.progress[rows]
        places = spans(self.starts[rows], answered)
        reasons = [(row, self._reasons[row]) for row in rows.tolist() if row in self._reasons]
        whole = len(rows) == self.batches[index].rows
        return Answer(
            done=self._unanswered[index] == 0,
            rows=b"" if whole else (rows - low).astype(LENGTH).tobytes(),
            status=status.tobytes() if status.any() else b"",
            applied=self.applied[rows].tobytes(),
            durable=self.durable[rows].tobytes(),
            lengths=answered.astype(LENGTH).tobytes(),
            steps=len(places),
            outputs=tuple(
                self.outputs[tensor.name][places].tobytes()
                for tensor in self._outputs
                if tensor.name in self.outputs
            ),
            errors=[(row - low, why) for row, why in reasons[:_MAX_REASONS]],
        )


def _joined(parts: Sequence[bytes]) -> bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _lengths(batches: Sequence[StepBatch], single: bool) -> tuple[IntColumn, IntColumn]:  # noqa: FBT001
    """Return the rows' lengths, and where they begin in the inputs."""
    if single:
        rows = sum([batch.rows for batch in batches])
        return np.ones(rows, np.int64), np.arange(rows)
    data = _joined([batch.lengths or _ONE_STEP * batch.rows for batch in batches])
    lengths = np.frombuffer(data, LENGTH).astype(np.int64)
    return lengths, np.cumsum(lengths) - lengths


def _first_steps(
    batches: Sequence[StepBatch],
) -> tuple[NDArray[np.uint64] | None, NDArray[np.bool_] | None]:
    """Return the counts at which the rows begin, and which rows say none; None: no row does."""
    said = [bool(batch.first_step) for batch in batches]
    if not any(said):
        return None, None
    data = _joined([batch.first_step or _NO_COUNT * batch.rows for batch in batches])
    first = np.frombuffer(data, COUNT)
    if all(said):
        return first, None
    return first, np.repeat(np.logical_not(said), [batch.rows for batch in batches])


def _delivered(batches: Sequence[StepBatch]) -> IntColumn | None:
    """Return how many answers the rows' clients hold, UNCHECKED where a row does not say."""
    if not any(batch.delivered for batch in batches):
        return None
    data = _joined([batch.delivered or _NOT_SAID * batch.rows for batch in batches])
    # A count beyond int64 can't be right; as a negative one it counts for nothing.
    return np.frombuffer(data, COUNT).view(np.int64)


def _deadlines(batches: Sequence[StepBatch], counts: list[int]) -> NDArray[np.float64] | None:
    if all(batch.deadline == math.inf for batch in batches):
        return None
    return np.repeat([batch.deadline for batch in batches], counts)


def _inputs(batches: Sequence[StepBatch], spec: ModelSpec) -> Arrays:
    result = {}
    for index, tensor in enumerate(spec.inputs):
        data = _joined([batch.inputs[index] for batch in batches])
        result[tensor.name] = np.frombuffer(data, tensor.dtype).reshape(-1, *tensor.shape)
    return result
