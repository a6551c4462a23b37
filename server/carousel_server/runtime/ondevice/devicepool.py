"""The pool of a device that copies go to and from: rows are read and written in blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carousel_server.runtime import pool as rows_of
from carousel_server.runtime.ondevice.buckets import LARGEST
from carousel_server.runtime.ondevice.exchange import Exchange
from carousel_server.runtime.ondevice.layout import Port
from carousel_server.runtime.ondevice.memory import Memory
from carousel_server.spec import StateSpec

Arrays = Mapping[str, NDArray[np.generic]]
CreateSession = Callable[[bytes], ort.InferenceSession]

_SLOTS = np.dtype(np.int64)


@dataclass(frozen=True, slots=True)
class Backup:
    """States of some slots as they were, kept on the device; until the next one is made."""

    slots: NDArray[np.int64]
    parts: tuple[tuple[Exchange, int, int], ...]  # with the first row and the row behind the last


class DevicePool:
    """Rows of state on the device: slot 0 is scratch, slots 1 to `slots` belong to sessions.

    Rows travel in one copy, through pinned memory where there is such a thing.
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
        # A reader a place: a backup of many rows is several blocks that are kept side by side.
        self._reads: dict[tuple[int, int], Exchange] = {}
        self._writes: dict[int, Exchange] = {}
        # What a GPU's memory begins with is anything; scratch at least is to be finite.
        self.write(
            np.zeros(1, np.int64), {s.name: np.zeros((1, *s.shape), s.dtype) for s in states}
        )

    def read(self, slots: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """Return the states in `slots` [N], each `[N, *shape]`, on the host."""
        return self.download(self.backup(slots))

    def backup(self, slots: NDArray[np.int64]) -> Backup:
        """Queue a copy of the states in `slots` [N] to another place on the device.

        It is there by the next `wait`, and belongs to the caller until the next backup.
        """
        parts = []
        with self._memory.gate.shared():
            for place, (first, last) in enumerate(_parts(len(slots))):
                exchange = self._read_exchange(_rounded(last - first), place)
                there = exchange.views[0][rows_of.SLOTS]
                there[: last - first] = slots[first:last]
                there[last - first :] = 0
                exchange.queue(exchange.inbox, None)
                parts.append((exchange, first, last))
        return Backup(slots, tuple(parts))

    def download(self, backup: Backup) -> dict[str, NDArray[np.generic]]:
        """Return the states of a backup, each `[N, *shape]`, on the host."""
        rows = {
            state.name: np.empty((len(backup.slots), *state.shape), state.dtype)
            for state in self._states
        }
        for exchange, first, last in backup.parts:
            with self._memory.gate.shared():
                exchange.queue_download(exchange.outbox)
                self._memory.wait()
                views = exchange.views[1]
            for name, values in rows.items():
                values[first:last] = views[rows_of.ROWS + name][: last - first]
        return rows

    def write(self, slots: NDArray[np.int64], rows: Arrays) -> None:
        """Put `rows`, each `[N, *shape]`, into `slots` [N]."""
        for first, last in _parts(len(slots)):
            with self._memory.gate.shared():
                exchange = self._write_exchange(_rounded(last - first))
                views = exchange.views[0]
                views[rows_of.SLOTS][: last - first, 0] = slots[first:last]
                views[rows_of.SLOTS][last - first :, 0] = 0
                for state in self._states:
                    views[rows_of.ROWS + state.name][: last - first] = rows[state.name][first:last]
                exchange.queue(exchange.inbox, None)
                self._memory.wait()

    def _read_exchange(self, count: int, place: int) -> Exchange:
        made = self._reads.get((count, place))
        if made is None:
            made = self._reads[count, place] = Exchange(
                self._reader,
                self._memory,
                inputs=[Port(rows_of.SLOTS, _SLOTS, (count,))],
                outputs=self._row_ports(count),
                held_inputs={rows_of.POOL + name: value for name, value in self.tensors.items()},
                held_outputs={},
            )
        return made

    def _write_exchange(self, count: int) -> Exchange:
        made = self._writes.get(count)
        if made is None:
            made = self._writes[count] = Exchange(
                self._writer,
                self._memory,
                inputs=[Port(rows_of.SLOTS, _SLOTS, (count, 1)), *self._row_ports(count)],
                outputs=[],
                held_inputs={rows_of.POOL + name: value for name, value in self.tensors.items()},
                held_outputs={rows_of.OUT + name: value for name, value in self.tensors.items()},
            )
        return made

    def _row_ports(self, count: int) -> list[Port]:
        return [Port(rows_of.ROWS + s.name, s.dtype, (count, *s.shape)) for s in self._states]


def _parts(count: int) -> list[tuple[int, int]]:
    return [(first, min(first + LARGEST, count)) for first in range(0, count, LARGEST)]


def _rounded(count: int) -> int:
    """Return the next power of two: blocks of few sizes are kept, the rest of one is scratch."""
    return 1 << (count - 1).bit_length()
