"""An engine on the bench: messages are put in and turns are run by hand, on a clock that stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from carousel_server.engine import controls
from carousel_server.engine.batch import Answer, StepBatch
from carousel_server.engine.controls import Call, Control
from carousel_server.engine.directory import Directory
from carousel_server.engine.engine import Engine, EngineLimits
from carousel_server.engine.observer import NoObserver
from carousel_server.engine.status import RowStatus
from carousel_server.errors import CarouselError
from tests.support.recurrence import RecurrenceRunner


class Clock:
    """A clock that stands until it is moved, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


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


class Reply:
    """A control call's result, once it is there."""

    def __init__(self) -> None:
        self.done = False
        self.error: CarouselError | None = None
        self._result: Any = None

    def take(self, result: Any) -> None:
        assert not self.done
        self.done = True
        if isinstance(result, CarouselError):
            self.error = result
        else:
            self._result = result

    @property
    def result(self) -> Any:
        assert self.done
        assert self.error is None, self.error
        return self._result


class Bench:
    """One engine, its model and its clock."""

    def __init__(
        self,
        runner: RecurrenceRunner | None = None,
        *,
        observer: Any = None,
        directory: Directory | None = None,
        **limits: int,
    ) -> None:
        self.runner = runner or RecurrenceRunner()
        self.clock = Clock()
        self.engine = Engine(
            number=3,
            runner=self.runner,
            directory=Directory(100) if directory is None else directory,
            limits=EngineLimits(**limits),
            observer=observer or NoObserver(),
            clock=self.clock,
        )

    @property
    def table(self):
        return self.engine.sessions.table

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            for delivery in self.engine.turn():
                delivery()

    def drain(self, most: int = 10_000) -> None:
        """Run turns until nothing is left."""
        for _ in range(most):
            if self.engine.idle:
                queued = self.engine.queued
                assert (queued.rows, queued.steps, queued.bytes) == (0, 0, 0)
                return
            self.turn()
        raise AssertionError("the engine does not come to an end")

    def call(self, control: Control[Any]) -> Reply:
        reply = Reply()
        self.engine.call(Call(control, reply.take))
        return reply

    def now(self, control: Control[Any]) -> Any:
        """Carry a call out and return its result."""
        reply = self.call(control)
        self.turn()
        return reply.result

    def open(self, *ids: str, states: dict[str, np.ndarray] | None = None) -> list[int]:
        return self.now(controls.Open(list(ids), states or {})).handles.tolist()

    def send(
        self,
        chunks: dict[int, Any] | Sequence[tuple[int, Any]],
        *,
        first_step: Sequence[int] | None = None,
        timeout: float = math.inf,
        whole: bool = False,
        tokens: Sequence[int] | None = None,
    ) -> Message:
        """Put a message in: chunks `[T, 2]` by handle."""
        pairs = list(chunks.items()) if isinstance(chunks, dict) else list(chunks)
        values = [np.asarray(value, np.float64).reshape(-1, 2) for _, value in pairs]
        lengths = np.array([len(value) for value in values], np.int64)
        message = Message(len(pairs))
        inputs = [np.concatenate(values).tobytes()]
        if tokens is not None:
            inputs.append(np.array(tokens, np.int64).tobytes())
        self.engine.submit(
            StepBatch(
                reply=message.take,
                handles=np.array([handle for handle, _ in pairs], np.uint64),
                inputs=tuple(inputs),
                steps=int(lengths.sum()),
                lengths=None if (lengths == 1).all() else lengths,
                first_step=None if first_step is None else np.array(first_step, np.uint64),
                deadline=self.clock.now + timeout,
                whole=whole,
            )
        )
        return message


def handles(*values: int) -> np.ndarray:
    """Return a column of handles."""
    return np.array(values, np.uint64)


def chunk(steps: int, seed: int = 0) -> np.ndarray:
    """Return inputs `[steps, 2]`: small whole numbers, so that all is exact."""
    return np.random.default_rng(seed).integers(0, 1000, (steps, 2)).astype(np.float64)
