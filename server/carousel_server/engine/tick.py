"""One tick: choose pieces of many sessions, run the model over them, commit what came out.

A piece is atomic: its session has taken in all of its steps, or none. Nothing of the sessions is
changed before a run has returned; a run that raises has written no state (`runner.py`), and is
repeated by halves until only the rows that make it raise are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine import outcome, packing, scheduler
from carousel_server.engine.cohort import Cohort
from carousel_server.engine.runner import Runner
from carousel_server.engine.status import RowStatus
from carousel_server.engine.table import IntColumn, SessionTable
from carousel_server.errors import RunError

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of one cohort's rows; columns of P."""

    cohort: Cohort
    rows: IntColumn
    steps: IntColumn

    @property
    def starts(self) -> IntColumn:
        """Where the pieces begin in the cohort's inputs and outputs."""
        return self.cohort.starts[self.rows] + self.cohort.progress[self.rows]

    def __getitem__(self, places: slice | IntColumn | NDArray[np.bool_]) -> Pieces:
        return Pieces(self.cohort, self.rows[places], self.steps[places])


@dataclass(slots=True)
class TickReport:
    """What a tick did."""

    rows: int = 0
    steps: int = 0
    padded_steps: int = 0  # T x B over its runs, padding included
    entries: list[IntColumn] = field(default_factory=list)


def select(
    cohorts: Sequence[Cohort], table: SessionTable, limits: scheduler.Limits
) -> list[Pieces]:
    """Choose the pieces of the next tick: of rows whose turn it is, the oldest first."""
    chosen, left = [], limits.rows
    for cohort in cohorts:
        rows = cohort.ready(table.head)[:left]
        if len(rows):
            steps = np.minimum(cohort.lengths[rows] - cohort.progress[rows], limits.steps)
            chosen.append(Pieces(cohort, rows, steps))
            left -= len(rows)
        if not left:
            break
    return chosen


def run_tick(
    chosen: Sequence[Pieces], table: SessionTable, runner: Runner, limits: scheduler.Limits
) -> TickReport:
    """Run the model over the chosen pieces and commit what came out."""
    report = TickReport(rows=sum(len(pieces.rows) for pieces in chosen))
    steps = np.concatenate([pieces.steps for pieces in chosen])
    for places in scheduler.groups(steps, limits):
        group = list(_within(chosen, places))
        report.padded_steps += int(steps[places].max()) * len(places)
        _run(group, table, runner)
    report.steps = int(steps.sum())
    report.entries = [pieces.cohort.entries[pieces.rows] for pieces in chosen]
    return report


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


def _run(group: Sequence[Pieces], table: SessionTable, runner: Runner) -> None:
    """Run one group and commit it; where the run raises, by halves."""
    entries = np.concatenate([pieces.cohort.entries[pieces.rows] for pieces in group])
    steps = np.concatenate([pieces.steps for pieces in group])
    try:
        outputs, bad = runner.run(
            table.slot[entries], steps.astype(np.int32), _pack(group, runner, steps)
        )
    except RunError as error:
        if len(entries) > 1:
            for half in _halves(group, len(entries)):
                _run(half, table, runner)
        else:
            _fail(group[0], table, RowStatus.MODEL_ERROR, str(error))
        return
    _commit(group, table, runner, outputs, bad)


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
        packed[tensor.name] = np.ascontiguousarray(value if spec.time_axis else value[0])
    return packed


def _commit(
    group: Sequence[Pieces],
    table: SessionTable,
    runner: Runner,
    outputs: Arrays,
    bad: NDArray[np.bool_],
) -> None:
    """Take over the outputs and advance the sessions whose states advanced."""
    first = 0
    for pieces in group:
        last = first + len(pieces.rows)
        values = {
            name: value[:, first:last] if runner.spec.time_axis else value[None, first:last]
            for name, value in outputs.items()
        }
        if bad[first:last].any():
            good = ~bad[first:last]
            _fail(pieces[~good], table, RowStatus.NUMERIC_FAULT)
            values = {name: value[:, good] for name, value in values.items()}
            _advance(pieces[good], table, values)
        else:
            _advance(pieces, table, values)
        first = last


def _advance(pieces: Pieces, table: SessionTable, values: Arrays) -> None:
    cohort, rows = pieces.cohort, pieces.rows
    if not len(rows):
        return
    cohort.store(pieces.starts, pieces.steps, values)
    table.applied[cohort.entries[rows]] += pieces.steps
    cohort.progress[rows] += pieces.steps
    over = cohort.progress[rows] == cohort.lengths[rows]
    outcome.finish(cohort, table, rows if over.all() else rows[over])


def _fail(pieces: Pieces, table: SessionTable, status: RowStatus, detail: str = "") -> None:
    codes = np.full(len(pieces.rows), status, np.uint8)
    outcome.fail(pieces.cohort, table, pieces.rows, codes, detail)
