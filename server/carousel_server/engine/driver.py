"""Who runs an engine's turns: its own thread, or the event loop when there is little to do.

A thread hand-off each way costs more than a small step. So an idle engine steps where the request
arrived: at once while one stream sends alone, otherwise at the end of the event loop's turn, with
all that came in during it. When a turn leaves work behind, or a lot comes in at once, the thread
takes over until nothing is left. A lock says whose turn it is; the loop never waits for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from carousel_server.engine.batch import StepBatch
from carousel_server.engine.change import Change
from carousel_server.engine.controls import Call, Control, Delivery
from carousel_server.engine.cost import RunCost
from carousel_server.engine.engine import Engine
from carousel_server.engine.runner import Runner
from carousel_server.errors import CarouselError, ModelUnloaded

_Result = TypeVar("_Result")


class Driver:
    """Runs the turns of one engine. All methods are called on the event loop."""

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        loop: asyncio.AbstractEventLoop,
        inline_rows: int,
        on_crash: Callable[[BaseException], None],
        working: set[object] | None = None,
    ) -> None:
        """Start the engine's thread.

        Args:
            engine: whose turns to run.
            name: the model's, for the thread and for errors.
            loop: where requests arrive and answers leave.
            inline_rows: as many queued rows of one step, at most, run on the loop itself; 0: none.
            on_crash: called on the loop with an exception that no request explains.
            working: the driver is in it while its thread is at work.

        """
        self._working = set() if working is None else working
        self._engine = engine
        self._name = name
        self._loop = loop
        self._inline_rows = inline_rows
        self._on_crash = on_crash
        self._turn = threading.Lock()
        # What turns had to say, in their order: filled by whoever has the turn, emptied on the
        # loop. A part of an answer must not be overtaken by the last one.
        self._outbox: deque[Delivery] = deque()
        self._wake = threading.Event()
        self._scheduled = False
        self._last_stream = -1  # that sent rows
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"engine-{name}", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether the engine has nothing to do, nobody runs its turn, and every answer is out."""
        # In the middle of a turn the engine may look idle, so look when nobody has it.
        if not self._turn.acquire(blocking=False):
            return False
        try:
            return self._engine.settled and not self._outbox
        finally:
            self._turn.release()

    def submit(self, batch: StepBatch) -> None:
        """Take rows in; answers go to `batch.reply`, on the loop."""
        self._engine.submit(batch)
        alone = batch.stream == self._last_stream
        self._last_stream = batch.stream
        if alone and self._may_step_here():
            self._step_here()
        else:
            self._poke()

    async def control(self, control: Control[_Result]) -> _Result:
        """Carry a control call out behind the rows that it must wait for.

        Raises:
            ModelUnloaded: it came too late.
            CarouselError: as the call says.

        """
        if self._stopping:
            raise ModelUnloaded(self._name)
        future: asyncio.Future[_Result] = self._loop.create_future()
        self.post(control, partial(_settle, future))
        return await future

    def post(self, control: Control[_Result], reply: Callable[[Any], None]) -> None:
        """Carry a control call out; `reply` is called on the loop with its result or error."""
        self._engine.call(Call(control, reply))
        self._poke()

    async def change(self, runner: Runner, *, cost: RunCost, inline_rows: int) -> int:
        """Have another runner take over, and return how many sessions go on with it.

        Its inputs, outputs and states must be those of the old one. Rows and calls that came before
        end with the old one; those that come while they do wait for the new one.

        Raises:
            RunError: the states can't be moved; the old runner serves on.

        """
        future: asyncio.Future[int] = self._loop.create_future()
        self._engine.change(Change(runner, cost, partial(_settle, future)))
        self._poke()
        sessions = await future
        self._inline_rows = inline_rows
        return sessions

    async def stop(self) -> None:
        """End the thread; what it has begun it ends."""
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)

    def _poke(self) -> None:
        """Have what was put into the engine done soon."""
        if self._scheduled:
            return
        if self._may_step_here():
            self._scheduled = True
            self._loop.call_soon(self._step_scheduled)
        else:
            self._wake.set()

    def _may_step_here(self) -> bool:
        may = self._inline_rows > 0 and self._engine.is_small(self._inline_rows)
        return may and not self._turn.locked()

    def _step_scheduled(self) -> None:
        self._scheduled = False
        if self._may_step_here():
            self._step_here()
        else:
            self._wake.set()

    def _step_here(self) -> None:
        if not self._turn.acquire(blocking=False):
            self._wake.set()
            return
        try:
            self._outbox.extend(self._engine.turn())
        except Exception as error:  # noqa: BLE001 - nothing may take the event loop down with it
            self._on_crash(error)
            return
        finally:
            self._turn.release()
        self._deliver()
        if not self._engine.idle:
            self._wake.set()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wake.wait()
                self._wake.clear()
                self._working.add(self)
                while not self._engine.idle and not self._stopping:
                    # Both threads need the interpreter for the answers of the last turn and the
                    # plan of the next one. So the loop hears of the answers when the next run
                    # begins, which needs it not.
                    self._have_turn(partial(self._engine.turn, before_wait=self._send_out))
                self._working.discard(self)
                self._send_out()
            self._have_turn(self._engine.finish)
            self._send_out()
        except Exception as error:  # noqa: BLE001 - said on the loop, which ends the server
            self._working.discard(self)
            self._loop.call_soon_threadsafe(self._on_crash, error)

    def _have_turn(self, turn: Callable[[], list[Delivery]]) -> None:
        with self._turn:
            self._outbox.extend(turn())

    def _send_out(self) -> None:
        if self._outbox:
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        while self._outbox:
            self._outbox.popleft()()


def _settle(future: asyncio.Future[_Result], result: _Result | CarouselError) -> None:
    if future.cancelled():
        return
    if isinstance(result, CarouselError):
        future.set_exception(result)
    else:
        future.set_result(result)
