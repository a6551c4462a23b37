"""CUDA's runtime library as far as its edge goes: it keeps books, and copies on the host."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np

OK, INVALID, NO_DEVICE, NO_MEMORY, NOT_READY = 0, 1, 100, 2, 600
UNTIMED = 2


class _Function:
    """A function of a library; ctypes would have it typed."""

    def __init__(self, run):
        self.run = run
        self.argtypes = self.restype = None

    def __call__(self, *arguments):
        plain = [a.value if isinstance(a, ctypes._SimpleCData) else a for a in arguments]
        return self.run(*plain)


@dataclass
class _Event:
    timed: bool
    recorded: int = 0  # times
    passed: int = 0
    time: float = 0.0


class FakeCudart:
    """A library with one GPU of 1 GiB. What is queued waits until somebody waits for it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.pinned: dict[int, object] = {}
        # In a stream are calls that give whether they are done: a hold is not, for a while.
        self.streams: dict[int, deque[Callable[[], bool]]] = {}
        self.events: dict[int, _Event] = {}
        self.device = -1
        self.free, self.total = 2**29, 2**30
        self.fails: dict[str, int] = {}  # by a function's name: the code that it gives
        self._numbers = count(1000)
        self._time = 0.0
        for name in dir(type(self)):
            if name.startswith("cuda"):
                setattr(self, name, _Function(self._counted(name, getattr(self, name))))

    def _counted(self, name, run):
        def counted(*arguments):
            self.calls.append(name)
            return self.fails.get(name) or run(*arguments)

        return counted

    def cudaGetErrorString(self, code):
        self.calls.pop()
        return {NO_DEVICE: b"no device", NO_MEMORY: b"out of memory"}.get(code, b"invalid argument")

    def cudaSetDevice(self, index):
        self.device = index
        return OK if index == 0 else NO_DEVICE

    def cudaGetDeviceProperties(self, properties, index):
        ctypes.memmove(properties, b"Imaginary 1000\0garbage", 22)
        return OK

    def cudaMemGetInfo(self, free, total):
        free._obj.value, total._obj.value = self.free, self.total
        return OK

    def cudaHostAlloc(self, made, nbytes, flags):
        buffer = (ctypes.c_uint8 * nbytes)()
        made._obj.value = ctypes.addressof(buffer)
        self.pinned[made._obj.value] = buffer
        return OK

    def cudaFreeHost(self, address):
        return OK if self.pinned.pop(address, None) is not None else INVALID

    def cudaMemcpyAsync(self, target, source, nbytes, kind, stream):
        if kind not in (1, 2, 3):
            return INVALID

        # What a pinned source holds when the copy is done goes, so it is looked at then.
        def copy():
            ctypes.memmove(target, source, nbytes)
            return True

        self.streams[stream].append(copy)
        return OK

    def cudaStreamCreateWithFlags(self, made, flags):
        made._obj.value = next(self._numbers)
        self.streams[made._obj.value] = deque()
        return OK if flags == 1 else INVALID

    def cudaStreamDestroy(self, stream):
        return OK if self.streams.pop(stream, None) is not None else INVALID

    def cudaStreamSynchronize(self, stream):
        self._work_until(lambda: not self.streams[stream])
        return OK

    def cudaStreamWaitEvent(self, stream, event, flags):
        # As it was recorded by now: later times don't count.
        mine, wanted = self.events[event], self.events[event].recorded
        self.streams[stream].append(lambda: mine.passed >= wanted)
        return OK if flags == 0 else INVALID

    def _work_until(self, enough):
        """Work streams off, one after the other, as far as their holds let them go on."""
        while not enough():
            before = sum(map(len, self.streams.values()))
            for queue in self.streams.values():
                while queue and queue[0]():
                    queue.popleft()
            assert sum(map(len, self.streams.values())) < before, "streams wait for each other"

    def cudaEventCreateWithFlags(self, made, flags):
        made._obj.value = next(self._numbers)
        self.events[made._obj.value] = _Event(timed=flags == 0)
        return OK if flags in (0, UNTIMED) else INVALID

    def cudaEventQuery(self, event):
        it = self.events[event]
        return OK if it.passed == it.recorded else NOT_READY

    def cudaEventSynchronize(self, event):
        it = self.events[event]
        self._work_until(lambda: it.passed == it.recorded)
        return OK

    def cudaEventDestroy(self, event):
        return OK if self.events.pop(event, None) is not None else INVALID

    def cudaEventRecord(self, event, stream):
        it = self.events[event]
        it.recorded += 1
        number = it.recorded

        def note():
            self._time += 0.25 * it.timed
            it.passed, it.time = max(it.passed, number), self._time
            return True

        self.streams[stream].append(note)
        return OK

    def cudaEventElapsedTime(self, milliseconds, first, last):
        first, last = self.events[first], self.events[last]
        if not (first.timed and last.timed):
            return INVALID
        milliseconds._obj.value = (last.time - first.time) * 1000
        return OK


def bytes_at(address: int, nbytes: int) -> np.ndarray:
    """Return what lies at an address."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address)).copy()
