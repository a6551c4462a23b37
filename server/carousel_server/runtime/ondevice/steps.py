"""Ticks as successive runs of one step, each a batch bucket that may be a captured graph.

Rows are sorted by length, so that those which still have a step stand in front: each step runs in
the buckets that hold them, and what is left of a bucket is scratch. A row that has ended is in no
run any more: its state stays untouched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from carousel_server.runtime import poolgraph
from carousel_server.runtime.ondevice import buckets
from carousel_server.runtime.ondevice.devicepool import DevicePool
from carousel_server.runtime.ondevice.exchange import Arrays, Exchange
from carousel_server.runtime.ondevice.lanes import Lane, Lanes
from carousel_server.runtime.ondevice.rowcopy import RowCopy
from carousel_server.runtime.ondevice.underway import Outcome, Restoring, UnderWay
from carousel_server.runtime.session import RUNTIME_ERRORS, first_line
from carousel_server.spec import ModelSpec


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
        lanes: Lanes,
        *,
        exchange: Callable[[int], Exchange],
        costs: Mapping[int, float],
    ) -> None:
        """Make nothing yet.

        Args:
            spec: the step form's.
            pool: where the states are.
            lanes: how ticks go there and come back.
            exchange: makes the runs of a bucket.
            costs: the buckets, and what a run of each costs, in any unit.

        """
        self.counts = Counts()
        self.spec = spec
        self._spec, self._pool, self._lanes = spec, pool, lanes
        self._make = exchange
        self._costs = dict(costs)
        self._exchanges: dict[int, Exchange] = {}
        # A captured graph is known to the thread that captured it, and to no other.
        self._captured: set[tuple[int, int]] = set()

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

    def run(self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays) -> Outcome:
        """Advance the states in `slots` [B] by `lengths` [B] steps; as `Runner.run` says.

        Raises what ONNX Runtime and the device raise: no state has been changed then.
        """
        return self.start(slots, lengths, inputs).finish()

    def start(
        self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays
    ) -> UnderWay:
        """Queue such a run."""
        if int(lengths.max()) == 1:
            sizes = buckets.cover(len(slots), self._costs)
            if len(sizes) == 1:
                return self._start_one(self.prepare(sizes[0]), slots, inputs)
        order = np.argsort(-lengths, kind="stable")
        active = buckets.active_rows(lengths)
        launches = list(plan(active.tolist(), self._costs))
        for size in {launch.bucket for launch in launches}:
            self.prepare(size)
        # One launch writes all or nothing; of several, as there are here, the first ones could
        # stand alone.
        restore = partial(self._restore, slots, self._pool.backup(slots))
        try:
            lane = self._send(launches, order, slots, inputs)
        except RUNTIME_ERRORS:
            restore(None)
            raise
        return Restoring(self._lanes, lane, self._collector(launches, order, inputs), restore)

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

            def scratch(there: Arrays) -> None:
                there[poolgraph.SLOTS][...] = 0
                for spec in self._spec.inputs:
                    there[spec.name][...] = spec.harmless

            made.capture(scratch)
            self._captured.add(key)
            self.counts.captures += 1

    def _start_one(self, exchange: Exchange, slots: NDArray[np.int64], inputs: Arrays) -> UnderWay:
        """Queue one launch of all rows as they are: what most ticks are, with nothing to sort."""
        rows, timed, spec = len(slots), self._spec.time_axis, self._spec

        def fill(_: int, there: Arrays) -> None:
            _fill(there[poolgraph.SLOTS], slots, np.zeros((), np.int64))
            for tensor in spec.inputs:
                given = inputs[tensor.name][0] if timed else inputs[tensor.name]
                _fill(there[tensor.name][0] if timed else there[tensor.name], given, given[0])

        def collect(came: Sequence[Arrays]) -> Outcome:
            back = came[0]
            outputs = {
                tensor.name: (
                    back[tensor.name][:, :rows] if timed else back[tensor.name][:rows]
                ).copy()
                for tensor in spec.outputs
            }
            return outputs, back[poolgraph.BAD][:rows, 0].astype(np.bool_)

        lane = self._lanes.send([exchange], fill)
        self.counts.replays += 1
        return UnderWay(self._lanes, lane, collect)

    def _send(
        self,
        launches: Sequence[Launch],
        order: NDArray[np.int64],
        slots: NDArray[np.int64],
        inputs: Arrays,
    ) -> Lane:
        def fill(number: int, there: Arrays) -> None:
            launch = launches[number]
            self._fill_launch(there, launch, order[launch.first : launch.last], slots, inputs)

        lane = self._lanes.send([self._exchanges[each.bucket] for each in launches], fill)
        self.counts.replays += len(launches)
        return lane

    def _restore(
        self, slots: NDArray[np.int64], backup: RowCopy, rows: NDArray[np.bool_] | None
    ) -> None:
        """Put back the states that were in `slots` [B], in some of the rows; None: in all."""
        before = backup.get()
        if rows is None:
            self._pool.write(slots, before)
        else:
            self._pool.write(slots[rows], {name: value[rows] for name, value in before.items()})

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

    def _collector(
        self, launches: Sequence[Launch], order: NDArray[np.int64], inputs: Arrays
    ) -> Callable[[Sequence[Arrays]], Outcome]:
        """Return what puts the launches' outputs, padding and all, back into the rows' order."""
        timed = self._spec.time_axis
        lead = next(iter(inputs.values())).shape[: 1 + timed]  # (T, B) or (B,)

        def collect(came: Sequence[Arrays]) -> Outcome:
            outputs = {s.name: np.zeros((*lead, *s.shape), s.dtype) for s in self._spec.outputs}
            bad = np.zeros(len(order), np.bool_)
            for launch, back in zip(launches, came, strict=True):
                rows = order[launch.first : launch.last]
                bad[rows] |= back[poolgraph.BAD][: len(rows), 0].astype(np.bool_)
                for name, values in outputs.items():
                    if timed:
                        values[launch.time, rows] = back[name][0, : len(rows)]
                    else:
                        values[rows] = back[name][: len(rows)]
            return outputs, bad

        return collect


def _fill(
    there: NDArray[np.generic], rows: NDArray[np.generic], padding: NDArray[np.generic]
) -> None:
    """Put rows in front, and the same padding into each place behind them."""
    there[: len(rows)] = rows
    if len(rows) < len(there):
        there[len(rows) :] = padding
