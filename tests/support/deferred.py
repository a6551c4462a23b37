"""A device that puts everything off: what a GPU may do at any time, it does at the worst."""

from __future__ import annotations

import ctypes
import random
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np

from carousel_server.runtime.ondevice.memory import Block, HostMemory, Stream


class _Event:
    recorded = passed = 0  # times


_Work = tuple[Callable[[], bool], Callable[[], None]]


class DeferredMemory(HostMemory):
    """The host's memory behind streams that are worked off in any order that their events allow.

    Nothing is done before somebody waits for it, or for something else, and then by chance. Whoever
    changes what is still to be read, or reads what is still to be written, gets it wrong here.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        # In a stream are pairs: whether its turn may come, and what happens then.
        self._queues: dict[Stream, deque[_Work]] = {s: deque() for s in Stream}
        self._lock = threading.RLock()

    @property
    def queued(self) -> int:
        """How much is put off."""
        return sum(map(len, self._queues.values()))

    def block(self, nbytes):
        made = super().block(nbytes)
        made.keeper[:] = 0xFF  # not a number, whatever it is taken for
        return made

    def upload(self, source, target, stream):
        self._put(stream, partial(super().upload, stream=stream), source, target)

    def download(self, source, target, stream):
        self._put(stream, partial(super().download, stream=stream), source, target)

    def move(self, source, target):
        self._put(Stream.COMPUTE, super().move, source, target)

    def launch(self, run):
        self._put(Stream.COMPUTE, run)

    def event(self, *, timed=False):
        return _Event()

    def record(self, event, stream):
        def note():
            event.passed = max(event.passed, number)

        with self._lock:  # whoever waits for it must find it in its stream
            event.recorded += 1
            number = event.recorded
            self._put(stream, note)

    def hold(self, stream, event):
        number = event.recorded  # by now: later times don't count
        self._queues[stream].append((lambda: event.passed >= number, lambda: None))

    def passed(self, event):
        with self._lock:
            for _ in range(self._random.randrange(3)):
                if self.queued:
                    self._work()
            return event.passed >= event.recorded

    def wait(self, event):
        with self._lock:
            while event.passed < event.recorded:
                self._work()

    def wait_for_all(self):
        with self._lock:
            while self.queued:
                self._work()

    def _put(self, stream, do, *arguments):
        # A device knows addresses: what lies there must be there still when its turn comes.
        there = [_Address(value) for value in arguments]

        def work():
            do(*[address.value() for address in there])

        self._queues[stream].append((lambda: True, work))

    def _work(self):
        """Do one thing of those that stand first, and are not held."""
        able = [queue for queue in self._queues.values() if queue and queue[0][0]()]
        assert able, "streams wait for each other"
        self._random.choice(able).popleft()[1]()


class _Address:
    """A block or staging, of which nothing is kept alive."""

    def __init__(self, value: Block | np.ndarray) -> None:
        if isinstance(value, Block):
            self._address, self._nbytes, owner = value.address, value.nbytes, value.keeper
        else:
            self._address, self._nbytes = value.ctypes.data, value.nbytes
            owner = value if value.base is None else value.base
        self._block, self._owner = isinstance(value, Block), weakref.ref(owner)

    def value(self) -> Block | np.ndarray:
        """Return it as it was given."""
        assert self._owner() is not None, "it was freed too early"
        if self._block:
            return Block(self._address, self._nbytes, None)
        raw = (ctypes.c_uint8 * self._nbytes).from_address(self._address)
        return np.ctypeslib.as_array(raw)
