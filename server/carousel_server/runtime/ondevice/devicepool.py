"""The pool of a device that copies go to and from: rows are read and written in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carousel_server.runtime import pool as rows_of
from carousel_server.runtime.ondevice.buckets import LARGEST
from carousel_server.runtime.ondevice.exchange import Arrays, Exchange
from carousel_server.runtime.ondevice.layout import Port
from carousel_server.runtime.ondevice.memory import Memory
from carousel_server.runtime.ondevice.rowbuffers import RowBuffer, RowBuffers
from carousel_server.runtime.ondevice.rowcopy import Outstanding, RowCopy
from carousel_server.spec import StateSpec

CreateSession = Callable[[bytes], ort.InferenceSession]

_SLOTS = np.dtype(np.int64)


class DevicePool:
    """Rows of state on the device: slot 0 is scratch, slots 1 to `slots` belong to sessions.

    Rows travel in one copy, through pinned memory where there is such a thing, and nobody waits for
    them but who wants to see them.
    """

    def __init__(
        self, states: Sequence[StateSpec], slots: int, memory: Memory, create: CreateSession
    ) -> None:
        """Allocate the pool and load the graphs that read and write rows.

        Raises:
            DeviceError: it does not fit.

        """
        self.slots = slots
        self._states = tuple(states)
        self._memory = memory
        with memory.gate.shared():
            self.tensors = {
                state.name: rows_of.allocate(state, slots + 1, memory.device) for state in states
            }
        self._reader = create(rows_of.reader_graph(states, slots + 1).SerializeToString())
        self._writer = create(rows_of.writer_graph(states, slots + 1).SerializeToString())
        self._out = RowBuffers(self._make_reader)
        self._in = RowBuffers(self._make_writer)
        self._outstanding = Outstanding()
        # What a GPU's memory begins with is anything; scratch at least is to be finite.
        self.write(
            np.zeros(1, np.int64), {s.name: np.zeros((1, *s.shape), s.dtype) for s in states}
        )

    def read(self, slots: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """Return the states in `slots` [N], each `[N, *shape]`, on the host."""
        return self.copy(slots).get()

    def copy(self, slots: NDArray[np.int64]) -> RowCopy:
        """Queue a copy of the states in `slots` [N] to the host, as they are after all runs so far.

        Runs go on meanwhile: the rows are gathered on the device, and leave it beside them.
        """
        copy = self.backup(slots)
        copy.fetch()
        self._outstanding.add(copy)
        return copy

    def backup(self, slots: NDArray[np.int64]) -> RowCopy:
        """Queue a copy of the states in `slots` [N] to another place on the device."""
        parts = []
        with self._queueing():
            for first, last in _parts(len(slots)):
                buffer = self._out.take(_rounded(last - first))
                there = buffer.inputs[rows_of.SLOTS]
                there[: last - first] = slots[first:last]
                there[last - first :] = 0
                buffer.gather()
                parts.append((buffer, first, last))
        return RowCopy(self._states, len(slots), parts, self._memory, self._out)

    def write(self, slots: NDArray[np.int64], rows: Arrays) -> None:
        """Put `rows`, each `[N, *shape]`, into `slots` [N], behind all runs so far."""
        with self._queueing():
            for first, last in _parts(len(slots)):
                buffer = self._in.take(_rounded(last - first))
                buffer.inputs[rows_of.SLOTS][: last - first, 0] = slots[first:last]
                buffer.inputs[rows_of.SLOTS][last - first :, 0] = 0
                for state in self._states:
                    there = buffer.inputs[rows_of.ROWS + state.name]
                    there[: last - first] = rows[state.name][first:last]
                buffer.scatter()
                self._in.give(buffer)

    @contextmanager
    def _queueing(self) -> Iterator[None]:
        """Stay inside the gate; where something raises, what was queued before is waited for."""
        with self._memory.gate.shared():
            try:
                yield
            except BaseException:
                # Its buffers go with what raised, and the device is at them.
                self._memory.wait_for_all()
                raise

    def _make_reader(self, count: int) -> RowBuffer:
        exchange = Exchange(
            self._reader,
            self._memory,
            inputs=[Port(rows_of.SLOTS, _SLOTS, (count,))],
            outputs=self._row_ports(count),
            held_inputs={rows_of.POOL + name: value for name, value in self.tensors.items()},
            held_outputs={},
        )
        return RowBuffer(exchange, self._memory, count)

    def _make_writer(self, count: int) -> RowBuffer:
        exchange = Exchange(
            self._writer,
            self._memory,
            inputs=[Port(rows_of.SLOTS, _SLOTS, (count, 1)), *self._row_ports(count)],
            outputs=[],
            held_inputs={rows_of.POOL + name: value for name, value in self.tensors.items()},
            held_outputs={rows_of.OUT + name: value for name, value in self.tensors.items()},
        )
        return RowBuffer(exchange, self._memory, count)

    def _row_ports(self, count: int) -> list[Port]:
        return [Port(rows_of.ROWS + s.name, s.dtype, (count, *s.shape)) for s in self._states]


def _parts(count: int) -> list[tuple[int, int]]:
    return [(first, min(first + LARGEST, count)) for first in range(0, count, LARGEST)]


def _rounded(count: int) -> int:
    """Return the next power of two: blocks of few sizes are kept, the rest of one is scratch."""
    return 1 << (count - 1).bit_length()
