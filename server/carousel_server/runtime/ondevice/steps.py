"""Ticks as successive runs of one step, each a batch bucket that may be a captured graph.

Rows are sorted by length, so that those which still have a step stand in front: each step runs in
the buckets that hold them, and what is left of a bucket is scratch. A row that has ended is in no
run any more: its state stays untouched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carousel_server.runtime import poolgraph
from carousel_server.runtime.ondevice import buckets
from carousel_server.runtime.ondevice.devicepool import DevicePool
from carousel_server.runtime.ondevice.exchange import Exchange
from carousel_server.runtime.ondevice.memory import Bytes, Memory
from carousel_server.runtime.session import RUNTIME_ERRORS, first_line
from carousel_server.spec import ModelSpec

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Launch:
    """One run of a step: rows `first` to `last` of the sorted ones at `time`, in a bucket."""

    time: int
    first: int
    last: int
    bucket: int


def plan(active: Sequence[int], costs: Mapping[int, float]) -> Iterator[Launch]:
    """Yield the launches of a tick, in order, from how many rows have a step at each time."""
    for time, rows in enumerate(active):
        first = 0
        for bucket in buckets.cover(rows, costs):
            last = min(first + bucket, rows)
            yield Launch(time, first, last, bucket)
            first = last


class CaptureFailed(RuntimeError):
    """A bucket can't be captured; nothing was run on sessions' states."""


@dataclass(slots=True)
class Counts:
    """What has happened to captured graphs."""

    captures: int = 0
    replays: int = 0


class Steps:
    """Runs steps in buckets."""

    def __init__(
        self,
        spec: ModelSpec,
        pool: DevicePool,
        memory: Memory,
        *,
        exchange: Callable[[int], Exchange],
        costs: Mapping[int, float],
    ) -> None:
        """Make nothing yet.

        Args:
            spec: the step form's.
            pool: where the states are.
            memory: where the tensors are.
            exchange: makes the runs of a bucket.
            costs: the buckets, and what a run of each costs, in any unit.

        """
        self.counts = Counts()
        self.spec = spec
        self._spec, self._pool, self._memory = spec, pool, memory
        self._make = exchange
        self._costs = dict(costs)
        self._exchanges: dict[int, Exchange] = {}
        # A captured graph is known to the thread that captured it, and to no other.
        self._captured: set[tuple[int, int]] = set()
        self._inbox, self._outbox = _Staging(memory), _Staging(memory)

    @property
    def sizes(self) -> list[int]:
        """The buckets, smallest first."""
        return sorted(self._costs)

    @property
    def nbytes(self) -> int:
        """Bytes that the buckets' blocks take on the device."""
        return sum(exchange.nbytes for exchange in self._exchanges.values())

    def seconds(self, lengths: NDArray[np.int64]) -> float:
        """Return what a tick of such lengths costs, in the unit of the buckets' costs."""
        active = buckets.active_rows(lengths)
        return sum(self._costs[each.bucket] for each in plan(active.tolist(), self._costs))

    def measured(self, costs: Mapping[int, float]) -> None:
        """Take other costs for the same buckets."""
        self._costs = {size: costs[size] for size in self._costs}

    def run(
        self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays
    ) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_]]:
        """Advance the states in `slots` [B] by `lengths` [B] steps; as `Runner.run` says.

        Raises what ONNX Runtime and the device raise: no state has been changed then.
        """
        if int(lengths.max()) == 1:
            sizes = buckets.cover(len(slots), self._costs)
            if len(sizes) == 1:
                return self._run_one(self.prepare(sizes[0]), slots, inputs)
        order = np.argsort(-lengths, kind="stable")
        active = buckets.active_rows(lengths)
        launches = list(plan(active.tolist(), self._costs))
        for size in {launch.bucket for launch in launches}:
            self.prepare(size)
        # One launch writes all or nothing; of several, the first ones could stand alone.
        backup = self._pool.backup(slots) if len(launches) > 1 else None
        try:
            outputs, bad = self._run(launches, order, slots, inputs)
        except RUNTIME_ERRORS:
            if backup is not None:
                self._pool.write(slots, self._pool.download(backup))
            raise
        if backup is not None and bad.any():
            before = self._pool.download(backup)
            self._pool.write(slots[bad], {name: rows[bad] for name, rows in before.items()})
        return outputs, bad

    def exchange(self, size: int) -> Exchange:
        """Return the runs of a bucket, whether they are captured or not."""
        made = self._exchanges.get(size)
        if made is None:
            made = self._exchanges[size] = self._make(size)
        return made

    def prepare(self, size: int) -> Exchange:
        """Return the runs of a bucket, captured for the thread that calls."""
        made = self.exchange(size)
        try:
            self._capture(size, made)
        except RUNTIME_ERRORS as error:
            raise CaptureFailed(f"bucket {size}: {first_line(error)}") from error
        return made

    def _capture(self, size: int, made: Exchange) -> None:
        key = (threading.get_ident(), size)
        if key not in self._captured:
            with self._memory.gate.shared():
                views = made.views[0]
            views[poolgraph.SLOTS][...] = 0
            for spec in self._spec.inputs:
                views[spec.name][...] = spec.harmless
            made.capture(made.inbox)
            self._captured.add(key)
            self.counts.captures += 1

    def _run_one(
        self, exchange: Exchange, slots: NDArray[np.int64], inputs: Arrays
    ) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_]]:
        """Make one launch of all rows as they are: what most ticks are, with nothing to sort."""
        rows, timed = len(slots), self._spec.time_axis
        there, back = exchange.views
        _fill(there[poolgraph.SLOTS], slots, np.zeros((), np.int64))
        for spec in self._spec.inputs:
            given = inputs[spec.name][0] if timed else inputs[spec.name]
            _fill(there[spec.name][0] if timed else there[spec.name], given, given[0])
        with self._memory.gate.shared():
            self._memory.start_clock()
            try:
                exchange.queue(exchange.inbox, exchange.outbox)
            finally:
                self._memory.stop_clock()
                self._memory.wait()
        self.counts.replays += 1
        outputs = {
            spec.name: (back[spec.name][:, :rows] if timed else back[spec.name][:rows]).copy()
            for spec in self._spec.outputs
        }
        return outputs, back[poolgraph.BAD][:rows, 0].astype(np.bool_)

    def _run(
        self,
        launches: Sequence[Launch],
        order: NDArray[np.int64],
        slots: NDArray[np.int64],
        inputs: Arrays,
    ) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_]]:
        exchanges = [self._exchanges[launch.bucket] for launch in launches]
        with self._memory.gate.shared():
            staged_in = self._inbox.cut([e.inputs.nbytes for e in exchanges])
            staged_out = self._outbox.cut([e.outputs.nbytes for e in exchanges])
            self._memory.start_clock()
            try:
                for launch, exchange, there, back in zip(
                    launches, exchanges, staged_in, staged_out, strict=True
                ):
                    rows = order[launch.first : launch.last]
                    self._fill_launch(exchange.inputs.views(there), launch, rows, slots, inputs)
                    exchange.queue(there, back)
            finally:
                # What was queued is still reading and writing the staging.
                self._memory.stop_clock()
                self._memory.wait()
        self.counts.replays += len(launches)
        return self._collect(launches, exchanges, staged_out, order, inputs)

    def _fill_launch(
        self,
        views: Arrays,
        launch: Launch,
        rows: NDArray[np.int64],
        slots: NDArray[np.int64],
        inputs: Arrays,
    ) -> None:
        timed = self._spec.time_axis
        _fill(views[poolgraph.SLOTS], slots[rows], np.zeros((), np.int64))
        for spec in self._spec.inputs:
            given = inputs[spec.name][launch.time] if timed else inputs[spec.name]  # (B, ...)
            # Padding too must be what the model may be given.
            _fill(views[spec.name][0] if timed else views[spec.name], given[rows], given[rows[0]])

    def _collect(
        self,
        launches: Sequence[Launch],
        exchanges: Sequence[Exchange],
        staged: Sequence[Bytes],
        order: NDArray[np.int64],
        inputs: Arrays,
    ) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_]]:
        timed = self._spec.time_axis
        lead = next(iter(inputs.values())).shape[: 1 + timed]  # (T, B) or (B,)
        outputs = {s.name: np.zeros((*lead, *s.shape), s.dtype) for s in self._spec.outputs}
        bad = np.zeros(len(order), np.bool_)
        for launch, exchange, back in zip(launches, exchanges, staged, strict=True):
            rows = order[launch.first : launch.last]
            views = exchange.outputs.views(back)
            bad[rows] |= views[poolgraph.BAD][: len(rows), 0].astype(np.bool_)
            for name, values in outputs.items():
                if timed:
                    values[launch.time, rows] = views[name][0, : len(rows)]
                else:
                    values[rows] = views[name][: len(rows)]
        return outputs, bad


def _fill(
    there: NDArray[np.generic], rows: NDArray[np.generic], padding: NDArray[np.generic]
) -> None:
    """Put rows in front, and the same padding into each place behind them."""
    there[: len(rows)] = rows
    if len(rows) < len(there):
        there[len(rows) :] = padding


class _Staging:
    """Bytes on the host that grow to what a tick needs, and are used again by the next one."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._bytes: Bytes = np.zeros(0, np.uint8)

    def cut(self, sizes: Sequence[int]) -> list[Bytes]:
        """Return a piece of each of the sizes."""
        needed = sum(sizes)
        if needed > len(self._bytes):
            self._bytes = self._memory.staging(max(needed, 2 * len(self._bytes)))
        ends = np.cumsum(sizes).tolist()
        return [self._bytes[end - size : end] for size, end in zip(sizes, ends, strict=True)]
