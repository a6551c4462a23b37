"""The rows of all messages that arrived during one tick, merged into one set of columns.

Merging them makes the cost of a tick grow with its rows and hardly with its messages: handles are
checked, tickets drawn and inputs packed with one numpy expression for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine import packing
from carousel_server.engine.batch import Answer, StepBatch
from carousel_server.engine.table import IntColumn
from carousel_server.spec import ModelSpec

_T = TypeVar("_T", bound=np.generic)

Arrays = dict[str, NDArray[np.generic]]

_UNCHECKED = -1
_MAX_REASONS = 8  # words for so many failed rows of a message; the status says the rest


class Cohort:
    """Columns over the rows of some messages, and what became of each row."""

    def __init__(self, batches: Sequence[StepBatch], spec: ModelSpec) -> None:
        self.batches = list(batches)
        counts = [batch.rows for batch in batches]
        self.first_row = np.cumsum([0, *counts])  # (messages + 1,)
        self.rows = int(self.first_row[-1])
        self.handles = _concatenate([batch.handles for batch in batches])
        self.lengths = _lengths(batches)
        self.starts = np.cumsum(self.lengths) - self.lengths  # row's first step in `inputs`
        self.first_step = _first_steps(batches)
        self.deadline = _deadlines(batches, counts)
        self.inputs = _inputs(batches, spec)
        self.outputs: Arrays = {}

        self.entries = np.zeros(self.rows, np.int64)
        self.tickets = np.full(self.rows, -1, np.int64)
        self.status = np.zeros(self.rows, np.uint8)
        self.progress = np.zeros(self.rows, np.int64)  # steps done
        self.applied = np.zeros(self.rows, np.int64)  # the session's count when the row was over
        self.pending = np.arange(self.rows)  # rows that are not over
        self._unanswered = list(counts)
        self._finished: list[IntColumn] = []
        self._reasons: dict[int, str] = {}

    def ready(self, head: IntColumn) -> IntColumn:
        """Return the rows whose turn it is."""
        rows = self.pending
        turn = head[self.entries[rows]] == self.tickets[rows]
        return rows if turn.all() else rows[turn]

    def expected_step(self, rows: IntColumn) -> IntColumn:
        """Return the count that each row's session must stand at for the row to go on."""
        expected = self.first_step[rows]
        return np.where(expected == _UNCHECKED, expected, expected + self.progress[rows])

    def finish(self, rows: IntColumn, applied: IntColumn) -> None:
        """Note that rows are over, with whatever `status` and `progress` they have."""
        self.applied[rows] = applied
        self._finished.append(rows)
        if len(rows) == len(self.pending):
            self.pending = self.pending[:0]
        else:
            self.pending = np.setdiff1d(self.pending, rows, assume_unique=True)

    def explain(self, row: int, why: str) -> None:
        """Keep the reason of a failed row, unless a better one is kept already."""
        self._reasons.setdefault(row, why)

    def store(self, starts: IntColumn, steps: IntColumn, values: Arrays) -> None:
        """Keep the outputs `[T, B, ...]` of pieces that begin at `starts` and have `steps`."""
        count = len(next(iter(self.inputs.values())))
        for name, value in values.items():
            if name not in self.outputs:
                if len(value) == 1 and len(starts) == self.rows == count:
                    self.outputs[name] = value[0]  # all of the cohort at once
                    continue
                self.outputs[name] = np.zeros((count, *value.shape[2:]), value.dtype)
            packing.unpack(self.outputs[name], starts, steps, value)

    def answers(self) -> Iterator[tuple[StepBatch, Answer]]:
        """Yield answers for the rows that are over and not answered yet."""
        if not self._finished:
            return
        rows = _concatenate(self._finished)
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
        bounds = self.first_row.tolist()
        failed = bool(self.status.any())
        for index, batch in enumerate(self.batches):
            low, high = bounds[index], bounds[index + 1]
            if failed and self.status[low:high].any():
                yield batch, self._partial_answer(index, np.arange(low, high))
                continue
            first, last = int(self.starts[low]), int(self.starts[high - 1] + self.lengths[high - 1])
            yield (
                batch,
                Answer(
                    done=True,
                    applied=self.applied[low:high],
                    lengths=self.lengths[low:high],
                    outputs={name: value[first:last] for name, value in self.outputs.items()},
                ),
            )

    def _partial_answer(self, index: int, rows: IntColumn) -> Answer:
        low = int(self.first_row[index])
        self._unanswered[index] -= len(rows)
        status = self.status[rows]
        answered = self.progress[rows]
        places = spans(self.starts[rows], answered)
        reasons = [(row, self._reasons[row]) for row in rows.tolist() if row in self._reasons]
        return Answer(
            done=self._unanswered[index] == 0,
            rows=None if len(rows) == self.batches[index].rows else rows - low,
            status=status if status.any() else None,
            applied=self.applied[rows],
            lengths=answered,
            outputs={name: value[places] for name, value in self.outputs.items()},
            errors=[(row - low, why) for row, why in reasons[:_MAX_REASONS]],
        )


def spans(starts: IntColumn, lengths: IntColumn) -> IntColumn:
    """Return the indices of runs laid end to end: [5, 9], [2, 3] -> [5, 6, 9, 10, 11]."""
    total = int(lengths.sum())
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(total)


def _concatenate(parts: Sequence[NDArray[_T]]) -> NDArray[_T]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _lengths(batches: Sequence[StepBatch]) -> IntColumn:
    if all(batch.lengths is None for batch in batches):
        return np.ones(sum(batch.rows for batch in batches), np.int64)
    return _concatenate(
        [
            np.ones(batch.rows, np.int64) if batch.lengths is None else batch.lengths
            for batch in batches
        ]
    )


def _first_steps(batches: Sequence[StepBatch]) -> IntColumn:
    # A count beyond int64 can't be right, and stays beyond every session's count when cut.
    limit = np.uint64(2**62)
    return _concatenate(
        [
            np.full(batch.rows, _UNCHECKED, np.int64)
            if batch.first_step is None
            else np.minimum(batch.first_step, limit).astype(np.int64)
            for batch in batches
        ]
    )


def _deadlines(batches: Sequence[StepBatch], counts: list[int]) -> NDArray[np.float64] | None:
    if all(batch.deadline == math.inf for batch in batches):
        return None
    return np.repeat([batch.deadline for batch in batches], counts)


def _inputs(batches: Sequence[StepBatch], spec: ModelSpec) -> Arrays:
    result = {}
    for index, tensor in enumerate(spec.inputs):
        data = b"".join([batch.inputs[index] for batch in batches])
        result[tensor.name] = np.frombuffer(data, tensor.dtype).reshape(-1, *tensor.shape)
    return result
