"""States of some slots as they were at one moment, on the device and on their way to the host."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carousel_server.runtime import pool as rows_of
from carousel_server.runtime.ondevice.memory import Memory
from carousel_server.runtime.ondevice.rowbuffers import RowBuffer, RowBuffers
from carousel_server.spec import StateSpec

# So many copies, and bytes of them, stay on the device for whoever asked for them.
_MOST_COPIES = 16
_MOST_BYTES = 64 * 1024 * 1024

#: A buffer, with the first of the rows that it has and the one behind the last.
Part = tuple[RowBuffer, int, int]


class RowCopy:
    """A `reading.Reading` of a device's memory. Any thread may ask for what it has."""

    def __init__(
        self,
        states: Sequence[StateSpec],
        count: int,
        parts: Sequence[Part],
        memory: Memory,
        buffers: RowBuffers,
    ) -> None:
        self.nbytes = count * sum(state.nbytes for state in states)
        self._specs, self._count, self._memory = states, count, memory
        self._parts, self._fetched = parts, False
        self._states: dict[str, NDArray[np.generic]] | None = None
        self._lock = threading.Lock()
        # Whoever asked for it may forget it: then too its blocks are somebody else's next.
        self._release = weakref.finalize(self, _give_back, buffers, parts)
        self._release.atexit = False

    def fetch(self) -> None:
        """Queue the copy to the host, if it is not queued."""
        if not self._fetched:
            self._fetched = True
            with self._memory.gate.shared():
                for buffer, _, _ in self._parts:
                    buffer.fetch()

    @property
    def done(self) -> bool:
        """Whether `get` would not wait."""
        if self._states is not None:
            return True
        with self._memory.gate.shared():
            return self._fetched and all(buffer.done for buffer, _, _ in self._parts)

    def get(self) -> dict[str, NDArray[np.generic]]:
        """Return the states, each `[N, *shape]`, when they are on the host.

        Raises what the device raises.
        """
        with self._lock:
            if self._states is None:
                self.fetch()
                self._states = self._collect()
                self._release()
                self._parts = ()
            return self._states

    def _collect(self) -> dict[str, NDArray[np.generic]]:
        states = {s.name: np.empty((self._count, *s.shape), s.dtype) for s in self._specs}
        for buffer, first, last in self._parts:
            with self._memory.gate.shared():
                buffer.wait()
            for name, values in states.items():
                values[first:last] = buffer.rows[rows_of.ROWS + name][: last - first]
        return states


class Outstanding:
    """The copies that were queued last; of older ones nothing stays on the device.

    Checkpoints wait for the store as long as it is away. What they fill meanwhile is to be the
    host's memory, which there is a bound for, and not the device's.
    """

    def __init__(self) -> None:
        self._copies: deque[tuple[weakref.ref[RowCopy], int]] = deque()
        self._nbytes = 0

    def add(self, copy: RowCopy) -> None:
        """Add a copy whose way to the host is queued; bring the oldest ones there if need be.

        Raises what the device raises.
        """
        self._copies.append((weakref.ref(copy), copy.nbytes))
        self._nbytes += copy.nbytes
        while len(self._copies) > _MOST_COPIES or (
            # However large the newest one is, nobody waits for it here.
            self._nbytes > _MOST_BYTES and len(self._copies) > 1
        ):
            oldest, nbytes = self._copies.popleft()
            self._nbytes -= nbytes
            if (known := oldest()) is not None:
                known.get()


def _give_back(buffers: RowBuffers, parts: Sequence[Part]) -> None:
    for buffer, _, _ in parts:
        buffers.give(buffer)
