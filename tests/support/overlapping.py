"""The recurrence on a device that works by itself, and that watches who touches what meanwhile."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from carousel_server.errors import RunError
from tests.support.recurrence import RecurrenceRunner


class OverlappingRunner(RecurrenceRunner):
    """Does what it is given in order, when somebody waits for it or, by chance, before."""

    def __init__(self, *arguments: Any, seed: int = 0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.most_under_way = 0
        self._random = random.Random(seed)
        self._queue: deque[Later] = deque()
        self._flying: list[Later] = []

    def start(self, slots, lengths, inputs):
        self._keep_off(slots)
        taken = {name: value.copy() for name, value in inputs.items()}
        run = super().run
        later = self._later(slots, lambda: run(slots.copy(), lengths.copy(), taken))
        self._flying.append(later)
        self.most_under_way = max(self.most_under_way, len(self._flying))
        return later

    def run(self, slots, lengths, inputs):
        return self.start(slots, lengths, inputs).finish()

    def write(self, slots, states):
        self._keep_off(slots)
        taken, write = {name: np.array(value) for name, value in states.items()}, super().write
        self._later(slots, lambda: write(slots.copy(), taken))

    def copy(self, slots):
        self._keep_off(slots)
        return self._later(slots, lambda: {"s": self.states[slots]})

    def read(self, slots):
        return self.copy(slots).get()

    def work(self, until: Callable[[], bool]) -> None:
        """Do what was asked for first, and so on."""
        while not until():
            self._queue.popleft().do()

    def maybe_work(self) -> None:
        for _ in range(self._random.randrange(3)):
            if self._queue:
                self._queue.popleft().do()

    def land(self, later: Later) -> None:
        self._flying.remove(later)

    def _later(self, slots: np.ndarray, act: Callable[[], Any]) -> Later:
        later = Later(self, slots.copy(), act)
        self._queue.append(later)
        return later

    def _keep_off(self, slots: np.ndarray) -> None:
        for later in self._flying:
            assert not set(slots.tolist()) & set(later.slots.tolist()), "it is being stepped"


class Later:
    """A run or a copy that was asked for."""

    nbytes = 0

    def __init__(self, runner: OverlappingRunner, slots: np.ndarray, act: Callable[[], Any]):
        self._runner, self.slots, self._act = runner, slots, act
        self._result: Any = None
        self._over = False

    def do(self) -> None:
        try:
            self._result = self._act()
        except RunError as error:
            self._result = error
        self._over = True

    @property
    def done(self) -> bool:
        self._runner.maybe_work()
        return self._over

    def get(self) -> Any:
        self._runner.work(until=lambda: self._over)
        return self._result

    def finish(self) -> Any:
        self._runner.land(self)
        result = self.get()
        if isinstance(result, RunError):
            raise result
        return result
