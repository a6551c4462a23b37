"""One tick: choose pieces of many sessions, run the model over them, commit what came out.

On a device that works by itself the runs of a tick are begun first and committed later; in between,
its rows are `away`, and others may be chosen for the next one.

A piece is atomic: its session has taken in all of its steps, or none. Nothing of the sessions is
changed before a run has returned; a run that raises has written no state (`runner.py`), and is
repeated by halves until only the rows that make it raise are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine import outcome, packing, scheduler
from carousel_server.engine.cohort import Cohort
from carousel_server.engine.columns import Arrays, IntColumn, join
from carousel_server.engine.runner import Outcome, Overlapping, Runner, Running
from carousel_server.engine.status import RowStatus
from carousel_server.engine.table import SessionTable
from carousel_server.errors import RunError

# A model that can't run rows of different lengths, or many, has many runs a tick. Each that is
# under way takes blocks of its own on the device, and two keep it busy.
_MOST_BEGUN = 4


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of one cohort's rows; columns of P."""

    cohort: Cohort
    rows: IntColumn
    entries: IntColumn
    starts: IntColumn  # where they begin in the cohort's inputs and outputs
    steps: IntColumn

    def __getitem__(self, places: IntColumn | NDArray[np.bool_]) -> Pieces:
        return Pieces(
            self.cohort,
            self.rows[places],
            self.entries[places],
            self.starts[places],
            self.steps[places],
        )


@dataclass(frozen=True, slots=True)
class TickReport:
    """What a tick did."""

    rows: int
    steps: int  # that ran
    padded_steps: int  # T x B over its runs, padding included
    applied: int  # steps that sessions have taken in


def select(cohorts: Sequence[Cohort], limits: scheduler.Limits) -> list[Pieces]:
    """Choose the pieces of the next tick, of rows whose turn it is: all, or even shares."""
    able = [cohort for cohort in cohorts if len(cohort.turn)]
    count = sum(len(cohort.turn) for cohort in able)
    rows = [cohort.turn for cohort in able]
    if count > limits.rows:
        streams = join([cohort.streams(cohort.turn) for cohort in able])
        places = scheduler.even_shares(streams, limits.rows)
        cuts = np.cumsum([0, *map(len, rows)])
        rows = [
            turn[places[low:high] - first]
            for turn, first, (low, high) in zip(
                rows, cuts, pairwise(np.searchsorted(places, cuts)), strict=False
            )
        ]
        count = limits.rows
    most = scheduler.piece_steps(count, limits) if count else 0
    return [
        _pieces(cohort, turn, most) for cohort, turn in zip(able, rows, strict=True) if len(turn)
    ]


def rows_ready(cohorts: Sequence[Cohort]) -> int:
    """Return how many rows have their turn, those that `select` leaves for later too."""
    return sum(len(cohort.turn) for cohort in cohorts)


def _pieces(cohort: Cohort, rows: IntColumn, most: int) -> Pieces:
    entries, starts, lengths = cohort.entries[rows], cohort.starts[rows], cohort.lengths[rows]
    if cohort.single:
        return Pieces(cohort, rows, entries, starts, lengths)
    progress = cohort.progress[rows]
    return Pieces(cohort, rows, entries, starts + progress, np.minimum(lengths - progress, most))


class Tick:
    """The runs that some pieces make, from their beginning to what becomes of their rows."""

    def __init__(
        self,
        chosen: Sequence[Pieces],
        table: SessionTable,
        runner: Runner,
        limits: scheduler.Limits,
    ) -> None:
        """Plan the runs."""
        self.chosen = chosen
        self.entries = join([pieces.entries for pieces in chosen])
        self._table, self._runner = table, runner
        self._steps = join([pieces.steps for pieces in chosen])
        self._places = scheduler.groups(self._steps, limits)
        whole = len(self._places) == 1
        self._groups = [
            chosen if whole else list(_within(chosen, places)) for places in self._places
        ]
        self._overlapping: Overlapping | None = None
        self._begun: list[Running | RunError] = []

    @property
    def rows(self) -> int:
        """How many pieces it has."""
        return len(self.entries)

    @property
    def done(self) -> bool:
        """Whether `finish` would not wait for what is under way."""
        return all(isinstance(run, RunError) or run.done for run in self._begun)

    def start(self, runner: Overlapping) -> None:
        """Begin the runs, on a device that works by itself; of many, the first ones."""
        self._overlapping = runner
        for pieces in self.chosen:
            pieces.cohort.send_away(pieces.rows)
        for _ in range(_MOST_BEGUN):
            self._begin_next()

    def finish(self) -> TickReport:
        """Commit what came out, of runs that were begun or are made now."""
        if self._begun:
            for pieces in self.chosen:
                pieces.cohort.bring_back(pieces.rows)
        padded = applied = 0
        for number, (group, places) in enumerate(zip(self._groups, self._places, strict=True)):
            padded += int(self._steps[places].max()) * len(places)
            self._begin_next()
            begun = self._begun[number] if self._begun else None
            applied += _run(group, self._table, self._runner, begun)
        steps = int(self._steps.sum())
        return TickReport(rows=self.rows, steps=steps, padded_steps=padded, applied=applied)

    def _begin_next(self) -> None:
        runner, number = self._overlapping, len(self._begun)
        if runner is None or number == len(self._groups):
            return
        try:
            run = runner.start(*_arguments(self._groups[number], self._table, runner))
        except RunError as error:
            self._begun.append(error)
        else:
            self._begun.append(run)


def _within(chosen: Sequence[Pieces], places: IntColumn) -> Iterator[Pieces]:
    """Yield those of the chosen pieces that stand at `places`, which are in ascending order."""
    first = 0
    for pieces in chosen:
        last = first + len(pieces.rows)
        low, high = np.searchsorted(places, [first, last])
        if high - low == len(pieces.rows):
            yield pieces
        elif high > low:
            yield pieces[places[low:high] - first]
        first = last


def _run(
    group: Sequence[Pieces],
    table: SessionTable,
    runner: Runner,
    begun: Running | RunError | None = None,
) -> int:
    """Run one group, if it was not begun, and commit it; return the steps applied.

    Where the run raises, by halves.
    """
    try:
        outputs, bad = _outcome(group, table, runner, begun)
    except RunError as error:
        count = sum(len(pieces.rows) for pieces in group)
        if count > 1:
            return sum(_run(half, table, runner) for half in _halves(group, count))
        _fail(group[0], table, RowStatus.MODEL_ERROR, str(error))
        return 0
    return _commit(group, table, runner, outputs, bad)


def _outcome(
    group: Sequence[Pieces],
    table: SessionTable,
    runner: Runner,
    begun: Running | RunError | None,
) -> Outcome:
    if isinstance(begun, RunError):
        raise begun
    if begun is not None:
        return begun.finish()
    return runner.run(*_arguments(group, table, runner))


def _arguments(
    group: Sequence[Pieces], table: SessionTable, runner: Runner
) -> tuple[IntColumn, IntColumn, Arrays]:
    """Return the slots, lengths and inputs of a group's run."""
    entries = join([pieces.entries for pieces in group])
    steps = join([pieces.steps for pieces in group])
    return table.slot[entries], steps, _pack(group, runner, steps)


def _halves(group: Sequence[Pieces], count: int) -> Iterator[list[Pieces]]:
    middle = count // 2
    yield list(_within(group, np.arange(middle)))
    yield list(_within(group, np.arange(middle, count)))


def _pack(group: Sequence[Pieces], runner: Runner, steps: IntColumn) -> Arrays:
    """Return the inputs of a run: `[T, B, ...]`, or `[B, ...]` without a time axis."""
    spec, longest, packed = runner.spec, int(steps.max()), {}
    for tensor in spec.inputs:
        parts = [
            packing.pack(pieces.cohort.inputs[tensor.name], pieces.starts, pieces.steps, longest)
            for pieces in group
        ]
        value = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        packed[tensor.name] = value if spec.time_axis else value[0]
    return packed


def _commit(
    group: Sequence[Pieces],
    table: SessionTable,
    runner: Runner,
    outputs: Arrays,
    bad: NDArray[np.bool_],
) -> int:
    """Take over the outputs and advance the sessions whose states advanced."""
    failed = bool(bad.any())
    first = applied = 0
    for pieces in group:
        last = first + len(pieces.rows)
        values = {
            name: value[:, first:last] if runner.spec.time_axis else value[None, first:last]
            for name, value in outputs.items()
        }
        if failed and bad[first:last].any():
            good = ~bad[first:last]
            _fail(pieces[~good], table, RowStatus.NUMERIC_FAULT)
            values = {name: value[:, good] for name, value in values.items()}
            applied += _advance(pieces[good], table, values)
        else:
            applied += _advance(pieces, table, values)
        first = last
    return applied


def _advance(pieces: Pieces, table: SessionTable, values: Arrays) -> int:
    cohort, rows = pieces.cohort, pieces.rows
    if not len(rows):
        return 0
    cohort.store(pieces.starts, pieces.steps, values)
    table.applied[pieces.entries] += pieces.steps
    if cohort.single:
        cohort.progress[rows] = 1
    else:
        cohort.progress[rows] += pieces.steps
        rows = rows[cohort.progress[rows] == cohort.lengths[rows]]
    outcome.finish(cohort, table, rows)
    return int(pieces.steps.sum())


def _fail(pieces: Pieces, table: SessionTable, status: RowStatus, detail: str = "") -> None:
    codes = np.full(len(pieces.rows), status, np.uint8)
    outcome.fail(pieces.cohort, table, pieces.rows, codes, detail)
