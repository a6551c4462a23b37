"""Many clients open, step, close and expire at once: nobody ever sees another's state.

Elsewhere a slot that was freed twice, by a close and by the reaper, came to belong to two clients.
Here handles name a generation, so a late message can't reach whoever has the slot now.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

import numpy as np
import pytest

from carousel_server.engine import controls
from carousel_server.engine.driver import Driver
from carousel_server.engine.status import RowStatus
from carousel_server.errors import NoRoom, SessionExists, SessionNotFound
from tests.support.bench import Bench, handles
from tests.support.driven import ALWAYS_INLINE, NEVER_INLINE, driven
from tests.support.recurrence import RecurrenceRunner, solo
from tests.support.steps import Message, batch_of

_SECONDS = 1.5
_CLIENTS = 20
_SLOTS = 8  # fewer than clients: entries and slots pass from hand to hand
_IDLE_SECONDS = 0.004
_GONE = {RowStatus.STALE_HANDLE, RowStatus.EXPIRED, RowStatus.NOT_FOUND}


@dataclass
class Tally:
    """What happened, so that the test can tell that something did."""

    answered: int = 0
    expired: int = 0
    late: int = 0


class Client:
    """Opens session after session, checks every answer, and tries an old handle beside it."""

    def __init__(self, number: int, driver: Driver, tally: Tally) -> None:
        self.random = random.Random(number)
        self.numbers = np.random.default_rng(number)
        self.driver = driver
        self.tally = tally
        self.old: list[int] = []

    async def run(self, until: float) -> None:
        while time.monotonic() < until:
            # Ids are few, so that clients take them from each other.
            name = f"s{self.random.randrange(_CLIENTS)}"
            try:
                opened = await self.driver.control(controls.Open([name], {}))
            except (NoRoom, SessionExists):
                await asyncio.sleep(0.001)
                continue
            handle = int(opened.handles[0])
            assert handle not in self.old
            if not await self.stream(handle) or await self.leave(name, handle):
                self.old = [*self.old, handle][-20:]

    async def stream(self, handle: int) -> bool:
        """Step the session for a while; return whether it is still there."""
        history = np.empty((0, 2))
        for _ in range(self.random.randrange(1, 12)):
            x = self.numbers.integers(0, 1000, (self.random.choice([1, 1, 1, 3, 9]), 2)) * 1.0
            message = await self.step(handle, x, len(history))
            if message.status[0] in _GONE:  # attached elsewhere, or expired
                self.tally.expired += message.status[0] is RowStatus.EXPIRED
                return False
            assert message.status[0] is RowStatus.OK
            history = np.concatenate([history, x])
            np.testing.assert_array_equal(message.outputs[0], solo(history)[-len(x) :])
            assert message.applied[0] == len(history)
            self.tally.answered += 1
            if self.random.random() < 0.1:
                await asyncio.sleep(2 * _IDLE_SECONDS * self.random.random())
        return True

    async def step(self, handle: int, x: np.ndarray, first: int) -> Message:
        late = self.random.sample(self.old, k=min(1, len(self.old)))
        rows = [(handle, x), *((old, x) for old in late)]
        batch, message = batch_of(rows, first_step=[first, *(0 for _ in late)])
        self.driver.submit(batch)
        while not message.done:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0)
        assert all(message.status[row] in _GONE for row in range(1, len(rows)))
        self.tally.late += len(late)
        return message

    async def leave(self, name: str, handle: int) -> bool:
        """Close the session, or close it through a new handle; or let it expire, and say False."""
        way = self.random.choice(["close", "attach", "expire"])
        if way == "close":
            await self.driver.control(controls.close(handles(handle)))
        elif way == "attach":
            try:
                attached = await self.driver.control(controls.Attach([name]))
            except SessionNotFound:
                return True
            await self.driver.control(controls.close(attached.handles))
        return way != "expire"


async def reap(driver: Driver, until: float) -> None:
    while time.monotonic() < until:
        await driver.control(controls.Expire(_IDLE_SECONDS))
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("inline_rows", [NEVER_INLINE, 4, ALWAYS_INLINE])
async def test_clients_that_race_never_see_each_others_state(inline_rows):
    bench = Bench(RecurrenceRunner(slots=_SLOTS), clock=time.monotonic, max_steps_per_tick=4)
    tally, crashes = Tally(), []
    async with driven(bench, inline_rows, crashes) as driver:
        until = time.monotonic() + _SECONDS
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(reap(driver, until))
            for number in range(_CLIENTS):
                tasks.create_task(Client(number, driver, tally).run(until))
        await driver.control(controls.Expire(0.0))
        assert driver.idle
    assert not crashes
    queued = bench.engine.queued
    assert (queued.rows, queued.steps, queued.bytes) == (0, 0, 0)
    assert bench.table.open == bench.engine.sessions.residency.slots.used == 0
    assert min(tally.answered, tally.expired, tally.late) > 0, tally
