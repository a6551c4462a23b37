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
        self.durable: dict[int, int] = {}
        self.lengths: dict[int, int] = {}
        self.outputs: dict[int, np.ndarray] = {}
        self.errors: dict[int, str] = {}

    def take(self, answer: Answer) -> None:
        assert not self.done, "an answer came behind the last one"
        rows = np.frombuffer(answer.rows, "<u4").tolist() if answer.rows else range(self.rows)
        count = len(rows)
        status = np.frombuffer(answer.status or bytes(count), np.uint8)
        counts = np.frombuffer(answer.applied, "<u8")
        lengths = np.frombuffer(answer.lengths, "<u4")
        assert len(answer.durable) == len(answer.applied)
        self.durable.update(zip(rows, np.frombuffer(answer.durable, "<u8").tolist(), strict=True))
        outputs = [np.frombuffer(data).reshape(-1, 2) for data in answer.outputs]
        values = outputs[0] if outputs else np.empty((0, 2))
        assert count == len(status) == len(counts) == len(lengths)
        begin = 0
        for row, code, applied, length in zip(
            rows, status.tolist(), counts.tolist(), lengths.tolist(), strict=True
        ):
            assert row not in self.status, "a row was answered twice"
            self.status[row] = RowStatus(code)
            self.applied[row], self.lengths[row] = applied, length
            self.outputs[row] = values[begin : begin + length]
            begin += length
        assert answer.steps == begin
        assert all(len(value) == begin for value in outputs)
        self.errors.update(answer.errors)
        self.retry_after_ms = answer.retry_after_ms
        self.done = answer.done
        self.parts += 1
        assert self.done == (len(self.status) == self.rows)


def batch_of(
    rows: Sequence[tuple[int, Any]],
    *,
    first_step: Sequence[int] | None = None,
    delivered: Sequence[int] | None = None,
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
        rows=len(rows),
        steps=int(lengths.sum()),
        handles=np.array([handle for handle, _ in rows], "<u8").tobytes(),
        inputs=tuple(inputs),
        lengths=b"" if (lengths == 1).all() else lengths.astype("<u4").tobytes(),
        first_step=b"" if first_step is None else np.array(first_step, "<u8").tobytes(),
        delivered=b"" if delivered is None else np.array(delivered, "<u8").tobytes(),
        deadline=deadline,
        whole=whole,
        stream=stream,
    )
    return batch, message
