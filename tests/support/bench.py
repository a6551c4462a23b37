"""An engine on the bench: messages are put in and turns are run by hand, on a clock that stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from carousel_server.engine import controls
from carousel_server.engine.controls import Call, Control
from carousel_server.engine.directory import Directory
from carousel_server.engine.engine import Engine
from carousel_server.engine.limits import EngineLimits
from carousel_server.engine.observer import Observer
from carousel_server.errors import CarouselError
from tests.support.recurrence import RecurrenceRunner
from tests.support.steps import Message, batch_of


class Clock:
    """A clock that stands until it is moved, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


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
        clock: Callable[[], float] | None = None,
        keeper: Any = None,
        number: int = 3,
        **limits: Any,
    ) -> None:
        self.runner = runner or RecurrenceRunner()
        self._streams = 0
        self.clock = Clock()  # stands, unless the engine is given another
        self.engine = Engine(
            number=number,
            runner=self.runner,
            directory=Directory(100) if directory is None else directory,
            limits=EngineLimits(**limits),
            observer=observer or Observer(),
            keeper=keeper,
            clock=clock or self.clock,
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
        delivered: Sequence[int] | None = None,
        timeout: float = math.inf,
        whole: bool = False,
        stream: int | None = None,
        tokens: Sequence[int] | None = None,
    ) -> Message:
        """Put a message in: chunks `[T, 2]` by handle; without a stream, of one of its own."""
        self._streams += 1
        batch, message = batch_of(
            list(chunks.items()) if isinstance(chunks, dict) else chunks,
            first_step=first_step,
            delivered=delivered,
            deadline=self.clock.now + timeout,
            whole=whole,
            stream=-self._streams if stream is None else stream,
            tokens=tokens,
        )
        self.engine.submit(batch)
        return message


def handles(*values: int) -> np.ndarray:
    """Return a column of handles."""
    return np.array(values, np.uint64)


def chunk(steps: int, seed: int = 0) -> np.ndarray:
    """Return inputs `[steps, 2]`: small whole numbers, so that all is exact."""
    return np.random.default_rng(seed).integers(0, 1000, (steps, 2)).astype(np.float64)
