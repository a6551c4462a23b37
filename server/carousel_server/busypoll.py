"""An event loop that looks for a while before it sleeps.

A thread that sleeps until the next message comes is woken late: the processor has gone to rest, and
its caches have gone cold. Where messages follow each other within some hundred microseconds, as
when a client sends its next step on the last one's answer, that is a third of a step's way (see
docs/performance.md). So the loop polls for that long first, as a network card's driver does
(Linux's `net.core.busy_poll`) and a hypervisor's idle processor (KVM's `halt_poll_ns`), whose rule
this is: a wait that was short has the next one polled for, and each that was long halves how long
that is done. While an engine's thread is at work it does not poll: the thread needs the core, and
the interpreter, to make what is waited for.
"""

from __future__ import annotations

import asyncio
import os
import selectors
from collections.abc import Coroutine, Set
from time import perf_counter
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_Ready = list[tuple[selectors.SelectorKey, int]]

# Below so much of the longest there is nothing to win any more.
_LEAST = 1 / 8


class BusyPollSelector(selectors.DefaultSelector):
    """Polls for up to `longest` seconds before it sleeps, if the last waits were no longer.

    It never does while there is anything in `working`.
    """

    def __init__(self, longest: float, working: Set[object] = frozenset()) -> None:
        super().__init__()
        self._longest = longest
        self._working = working
        self._now = 0.0  # how long it polls at present

    def select(self, timeout: float | None = None) -> _Ready:
        """Wait for something to be ready; see `selectors.BaseSelector.select`."""
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        began = perf_counter()
        ready: _Ready = []
        if self._now and not self._working and (timeout is None or timeout > self._now):
            until = began + self._now
            while not ready and not self._working and perf_counter() < until:
                os.sched_yield()  # it may be made by a thread that waits for this core
                ready = super().select(0)
        if not ready:
            left = None if timeout is None else timeout - (perf_counter() - began)
            ready = super().select(left)
        self._learn(perf_counter() - began)
        return ready

    def _learn(self, waited: float) -> None:
        if waited <= self._longest:
            self._now = self._longest
        elif self._now:
            half = self._now / 2
            self._now = half if half >= self._longest * _LEAST else 0.0


def run(
    main: Coroutine[Any, Any, _Result], *, longest: float, working: Set[object] = frozenset()
) -> _Result:
    """Run a coroutine as `asyncio.run` does; its loop polls for up to `longest` seconds, if any.

    It never does while there is anything in `working`.
    """

    def make_loop() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(BusyPollSelector(longest, working))

    with asyncio.Runner(loop_factory=make_loop if longest else None) as runner:
        return runner.run(main)
