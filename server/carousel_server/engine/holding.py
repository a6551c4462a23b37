"""Answers that wait until the store has what they tell of (`--durability strict`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from carousel_server.engine.batch import Answer, StepBatch, refusal
from carousel_server.engine.status import RowStatus

Answers = list[tuple[StepBatch, Answer]]


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

    def let_go(self, kept: Sequence[bool]) -> None:
        """Free the answers that wait longest.

        Where the store has refused a session, another server has it: then none of the messages is
        answered as if its steps had happened. What did is found out by attaching again.
        """
        answers = self._waiting.popleft()
        if not all(kept):
            answers = [(batch, _moved(batch, answer)) for batch, answer in answers]
        self._free += [(batch, _durable(answer)) for batch, answer in answers]


def _durable(answer: Answer) -> Answer:
    answer.durable = answer.applied
    return answer


def _moved(batch: StepBatch, answer: Answer) -> Answer:
    why = "the sessions of these rows were saved by another server meanwhile; attach again"
    moved = refusal(batch, RowStatus.MOVED, why)
    moved.done = answer.done
    if answer.rows:
        count = len(answer.rows) // 4
        moved.rows, moved.status = answer.rows, bytes([RowStatus.MOVED]) * count
        moved.applied, moved.lengths = bytes(8 * count), bytes(4 * count)
    return moved
