"""CUDA's runtime library as far as its edge goes: it keeps books, and copies on the host."""

from __future__ import annotations

import ctypes
from itertools import count

import numpy as np

OK, INVALID, NO_DEVICE, NO_MEMORY = 0, 1, 100, 2


class _Function:
    """A function of a library; ctypes would have it typed."""

    def __init__(self, run):
        self.run = run
        self.argtypes = self.restype = None

    def __call__(self, *arguments):
        plain = [a.value if isinstance(a, ctypes._SimpleCData) else a for a in arguments]
        return self.run(*plain)


class FakeCudart:
    """A library with one GPU of 1 GiB. Copies are queued until somebody waits for their stream."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.pinned: dict[int, object] = {}
        self.streams: dict[int, list] = {}
        self.events: dict[int, float] = {}
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
        # What a pinned source holds when the copy is done goes, so it is looked at then.
        self.streams[stream].append(lambda: ctypes.memmove(target, source, nbytes))
        return OK if kind in (1, 2) else INVALID

    def cudaStreamCreateWithFlags(self, made, flags):
        made._obj.value = next(self._numbers)
        self.streams[made._obj.value] = []
        return OK if flags == 1 else INVALID

    def cudaStreamDestroy(self, stream):
        return OK if self.streams.pop(stream, None) is not None else INVALID

    def cudaStreamSynchronize(self, stream):
        for run in self.streams[stream]:
            run()
        self.streams[stream].clear()
        return OK

    def cudaEventCreate(self, made):
        made._obj.value = next(self._numbers)
        self.events[made._obj.value] = 0.0
        return OK

    def cudaEventDestroy(self, event):
        return OK if self.events.pop(event, None) is not None else INVALID

    def cudaEventRecord(self, event, stream):
        def note():
            self._time += 0.25
            self.events[event] = self._time

        self.streams[stream].append(note)
        return OK

    def cudaEventElapsedTime(self, milliseconds, first, last):
        milliseconds._obj.value = (self.events[last] - self.events[first]) * 1000
        return OK


def bytes_at(address: int, nbytes: int) -> np.ndarray:
    """Return what lies at an address."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address)).copy()
