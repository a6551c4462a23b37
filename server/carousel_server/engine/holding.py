"""Answers that wait until the store has what they tell of (`--durability strict`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.batch import Answer, StepBatch
from carousel_server.engine.columns import COUNT, LENGTH
from carousel_server.engine.status import RowStatus

Answers = list[tuple[StepBatch, Answer]]

_WHY = "another server saved this session meanwhile; attach to it again"


class Holding:
    """Answers of ticks, in their order. Whoever has the engine's turn calls it."""

    def __init__(self) -> None:
        self._waiting: deque[Answers] = deque()
        self._free: Answers = []

    @property
    def empty(self) -> bool:
        """Whether no answer is held."""
        return not (self._waiting or self._free)

    def hold(self, answers: Answers) -> None:
        """Hold answers until `let_go` is called as often as this was before and now."""
        self._waiting.append(answers)

    def join(self, answers: Answers) -> Answers:
        """Put answers behind those that wait; return those that may leave now."""
        if self._waiting:
            self._waiting[-1].extend(answers)
            answers = []
        free, self._free = self._free, []
        return free + answers

    def let_go(self, handles: NDArray[np.uint64], kept: Sequence[bool]) -> None:
        """Free the answers that wait longest.

        Args:
            handles: of the sessions that were saved for them.
            kept: which of these the store has taken. The others another server has: their rows
                are answered as if they had not run. What did is found out by attaching again.

        """
        lost = handles[~np.asarray(kept, np.bool_)]
        self._free += [(b, _settled(b, answer, lost)) for b, answer in self._waiting.popleft()]


def _settled(batch: StepBatch, answer: Answer, lost: NDArray[np.uint64]) -> Answer:
    """Return an answer of which all is saved; rows of lost sessions have moved."""
    if len(lost) or RowStatus.MOVED in answer.status:
        answer = _without(answer, _moved(batch, answer, lost))
    answer.durable = answer.applied
    return answer


def _moved(batch: StepBatch, answer: Answer, lost: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which rows of an answer are of sessions that others have."""
    handles = np.frombuffer(batch.handles, COUNT)
    if answer.rows:
        handles = handles[np.frombuffer(answer.rows, LENGTH)]
    # The session of a row with a status of its own may be another's too, and be known to be.
    moved: NDArray[np.bool_] = np.isin(handles, lost)
    if answer.status:
        moved |= np.frombuffer(answer.status, np.uint8) == RowStatus.MOVED
    return moved


def _without(answer: Answer, rows: NDArray[np.bool_]) -> Answer:
    """Return an answer with some of its rows answered MOVED, and none of their steps."""
    if not rows.any():
        return answer
    lengths = np.frombuffer(answer.lengths, LENGTH)
    stay = np.repeat(~rows, lengths)
    status = np.frombuffer(answer.status or bytes(len(rows)), np.uint8)
    moved = np.flatnonzero(rows)
    numbers = np.frombuffer(answer.rows, LENGTH)[moved] if answer.rows else moved
    return replace(
        answer,
        status=np.where(rows, RowStatus.MOVED, status).astype(np.uint8).tobytes(),
        applied=np.where(rows, 0, np.frombuffer(answer.applied, COUNT)).astype(COUNT).tobytes(),
        lengths=np.where(rows, 0, lengths).astype(LENGTH).tobytes(),
        steps=int(stay.sum()),
        outputs=tuple(_cut(data, stay) for data in answer.outputs),
        errors=[(int(numbers[0]), _WHY), *(e for e in answer.errors if e[0] not in numbers)],
    )


def _cut(data: bytes, stay: NDArray[np.bool_]) -> bytes:
    """Return those steps of an output's bytes that stay."""
    if not len(stay):
        return data
    steps = np.frombuffer(data, np.uint8).reshape(len(stay), -1)
    return steps[stay].tobytes()
