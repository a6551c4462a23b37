"""Who runs an engine's turns, and in which order its answers leave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from carousel_server.engine import controls
from carousel_server.engine.driver import Driver
from carousel_server.errors import SessionNotFound
from tests.support.bench import Bench, chunk
from tests.support.driven import ALWAYS_INLINE, NEVER_INLINE, driven
from tests.support.recurrence import solo
from tests.support.steps import Message, batch_of


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0)


async def answered(message: Message) -> None:
    await until(lambda: message.done)


async def open_one(driver: Driver, name: str) -> int:
    opened = await driver.control(controls.Open([name], {}))
    return int(opened.handles[0])


@pytest.mark.parametrize("inline_rows", [NEVER_INLINE, ALWAYS_INLINE])
async def test_rows_run_on_the_loop_only_where_there_are_few(inline_rows):
    bench = Bench(clock=time.monotonic, max_steps_per_tick=4)
    threads = set()
    bench.runner.before_run = lambda: threads.add(threading.current_thread())
    async with driven(bench, inline_rows) as driver:
        handle = await open_one(driver, "a")
        batch, message = batch_of([(handle, chunk(1))])
        driver.submit(batch)
        await answered(message)
    np.testing.assert_array_equal(message.outputs[0], solo(chunk(1)))
    assert threads == {threading.current_thread()} or inline_rows == NEVER_INLINE
    assert threading.current_thread() not in threads or inline_rows == ALWAYS_INLINE


async def test_chunks_run_on_the_thread_whoever_is_idle():
    bench = Bench(clock=time.monotonic)
    threads = set()
    bench.runner.before_run = lambda: threads.add(threading.current_thread())
    async with driven(bench, ALWAYS_INLINE) as driver:
        handle = await open_one(driver, "a")
        batch, message = batch_of([(handle, chunk(4))])
        driver.submit(batch)
        await answered(message)
    np.testing.assert_array_equal(message.outputs[0], solo(chunk(4)))
    assert threading.current_thread() not in threads


async def test_what_a_turn_on_the_loop_leaves_is_done_by_the_thread():
    bench = Bench(max_steps_per_tick=4)
    async with driven(bench, ALWAYS_INLINE) as driver:
        handle = await open_one(driver, "a")
        batch, message = batch_of([(handle, chunk(40))])
        driver.submit(batch)
        await answered(message)
        assert driver.idle
    np.testing.assert_array_equal(message.outputs[0], solo(chunk(40)))


async def test_errors_of_control_calls_are_raised():
    async with driven(Bench(), ALWAYS_INLINE) as driver:
        with pytest.raises(SessionNotFound, match="'nobody'"):
            await driver.control(controls.Attach(["nobody"]))


async def test_a_call_that_nobody_waits_for_any_more_is_carried_out():
    bench = Bench()
    async with driven(bench, ALWAYS_INLINE) as driver:
        waiting = asyncio.create_task(driver.control(controls.Open(["a"], {})))
        await asyncio.sleep(0)
        waiting.cancel()
        assert len(await driver.control(controls.Describe(["a"]))) == 1
        assert waiting.cancelled()


@pytest.mark.parametrize("inline_rows", [NEVER_INLINE, ALWAYS_INLINE])
async def test_an_exception_that_no_request_explains_is_told(inline_rows):
    bench, crashes = Bench(), []
    async with driven(bench, inline_rows, crashes) as driver:
        handle = await open_one(driver, "a")

        def crash():
            raise KeyError("unforeseen")

        bench.runner.before_run = crash
        driver.submit(batch_of([(handle, chunk(1))])[0])
        await until(lambda: crashes)
    assert isinstance(crashes[0], KeyError)


async def test_it_is_not_idle_while_a_turn_is_under_way():
    bench = Bench()
    began, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        go_on.wait(10)

    bench.runner.before_run = hold
    async with driven(bench, NEVER_INLINE) as driver:
        handle = await open_one(driver, "a")
        batch, message = batch_of([(handle, chunk(1))])
        driver.submit(batch)
        await asyncio.to_thread(began.wait, 10)
        assert not driver.idle
        go_on.set()
        await answered(message)
        assert driver.idle


class HeldLoop:
    """An event loop whose callbacks run when the test says so."""

    def __init__(self) -> None:
        self.ready: list[Callable[[], None]] = []

    def call_soon(self, callback, *args) -> None:
        self.ready.append(lambda: callback(*args))

    call_soon_threadsafe = call_soon

    def run(self) -> None:
        while self.ready:
            self.ready.pop(0)()


class ThreeTurns:
    """An engine of three turns, each with one answer; the thread is held before each."""

    def __init__(self) -> None:
        self.said: list[int] = []
        self.queued_rows = 99
        self.turns = 0
        self.loop_thread = threading.current_thread()
        self.at_gate = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    @property
    def idle(self) -> bool:
        if threading.current_thread() is not self.loop_thread:
            self.at_gate.release()
            self.gate.acquire(timeout=10)
        return self.turns == 3

    def submit(self, batch) -> None:
        pass

    def is_small(self, rows: int) -> bool:
        return self.queued_rows <= rows

    def turn(self, before_wait=lambda: None):
        self.turns += 1
        number = self.turns
        return [lambda: self.said.append(number)]

    def finish(self):
        return []


async def test_answers_leave_in_the_order_of_the_turns_that_gave_them():
    # Otherwise a message's last answer could overtake an earlier part of it, which the client
    # then takes for an answer to nothing.
    engine, loop = ThreeTurns(), HeldLoop()
    working: set[object] = set()
    driver = Driver(
        engine, name="test", loop=loop, inline_rows=10, on_crash=[].append, working=working
    )
    assert not working
    one, other = (batch_of([(7, chunk(1))], stream=stream)[0] for stream in (1, 2))
    driver.submit(one)  # too much for the loop: the thread wakes
    assert engine.at_gate.acquire(timeout=10)
    assert working == {driver}
    engine.gate.release()  # and does the first turn
    assert engine.at_gate.acquire(timeout=10)
    engine.queued_rows = 1
    driver.submit(other)  # little, and nobody has the turn: it is to be done on the loop
    engine.gate.release()  # but before the loop gets there, the thread does another
    assert engine.at_gate.acquire(timeout=10)
    loop.run()
    engine.gate.release()
    await driver.stop()
    loop.run()
    assert engine.said == [1, 2, 3]
    assert not working


async def test_a_stream_that_sends_alone_is_stepped_at_once_and_others_together():
    bench = Bench()
    async with driven(bench, ALWAYS_INLINE) as driver:
        handles = [await open_one(driver, name) for name in "ab"]

        def send(handle: int, stream: int) -> Message:
            batch, message = batch_of([(handle, chunk(1))], stream=stream)
            driver.submit(batch)
            return message

        await answered(send(handles[0], 1))
        assert send(handles[0], 1).done
        first, second = send(handles[1], 2), send(handles[0], 1)
        assert not first.done
        assert not second.done
        runs = len(bench.runner.runs)
        await answered(first)
        assert second.done
        assert len(bench.runner.runs) == runs + 1
