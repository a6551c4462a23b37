"""Step batches for the engine, and the messages that collect their answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from carousel_server.engine.batch import Answer, StepBatch
from carousel_server.engine.status import RowStatus


class Message:
    """One message's answers, put together; it minds that each row is answered once."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.done = False
        self.parts = 0
        self.retry_after_ms = 0
        self.status: dict[int, RowStatus] = {}
        self.applied: dict[int, int] = {}
        self.lengths: dict[int, int] = {}
        self.outputs: dict[int, np.ndarray] = {}
        self.errors: dict[int, str] = {}

    def take(self, answer: Answer) -> None:
        assert not self.done, "an answer came behind the last one"
        rows = range(self.rows) if answer.rows is None else answer.rows.tolist()
        count = len(rows)
        status = np.zeros(count, np.uint8) if answer.status is None else answer.status
        assert count == len(status) == len(answer.applied) == len(answer.lengths)
        begin = 0
        for row, code, applied, length in zip(
            rows, status.tolist(), answer.applied.tolist(), answer.lengths.tolist(), strict=True
        ):
            assert row not in self.status, "a row was answered twice"
            self.status[row] = RowStatus(code)
            self.applied[row], self.lengths[row] = applied, length
            self.outputs[row] = np.array(answer.outputs.get("y", np.empty((0, 2))))[
                begin : begin + length
            ]
            begin += length
        assert all(len(value) == begin for value in answer.outputs.values())
        self.errors.update(answer.errors)
        self.retry_after_ms = answer.retry_after_ms
        self.done = answer.done
        self.parts += 1
        assert self.done == (len(self.status) == self.rows)


def batch_of(
    rows: Sequence[tuple[int, Any]],
    *,
    first_step: Sequence[int] | None = None,
    deadline: float = math.inf,
    whole: bool = False,
    stream: int = 0,
    tokens: Sequence[int] | None = None,
) -> tuple[StepBatch, Message]:
    """Return a batch of chunks `[T, 2]` by handle, and the message that gets its answers."""
    values = [np.asarray(value, np.float64).reshape(-1, 2) for _, value in rows]
    lengths = np.array([len(value) for value in values], np.int64)
    message = Message(len(values))
    inputs = [np.concatenate(values).tobytes()]
    if tokens is not None:
        inputs.append(np.array(tokens, np.int64).tobytes())
    batch = StepBatch(
        reply=message.take,
        handles=np.array([handle for handle, _ in rows], np.uint64),
        inputs=tuple(inputs),
        steps=int(lengths.sum()),
        lengths=None if (lengths == 1).all() else lengths,
        first_step=None if first_step is None else np.array(first_step, np.uint64),
        deadline=deadline,
        whole=whole,
        stream=stream,
    )
    return batch, message
