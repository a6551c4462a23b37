"""One tick: choose pieces of many sessions, run the model over them, commit what came out.

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
from carousel_server.engine.runner import Runner
from carousel_server.engine.status import RowStatus
from carousel_server.engine.table import SessionTable
from carousel_server.errors import RunError


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


def _pieces(cohort: Cohort, rows: IntColumn, most: int) -> Pieces:
    entries, starts, lengths = cohort.entries[rows], cohort.starts[rows], cohort.lengths[rows]
    if cohort.single:
        return Pieces(cohort, rows, entries, starts, lengths)
    progress = cohort.progress[rows]
    return Pieces(cohort, rows, entries, starts + progress, np.minimum(lengths - progress, most))


def run_tick(
    chosen: Sequence[Pieces], table: SessionTable, runner: Runner, limits: scheduler.Limits
) -> TickReport:
    """Run the model over the chosen pieces and commit what came out."""
    steps = join([pieces.steps for pieces in chosen])
    padded = applied = 0
    runs = scheduler.groups(steps, limits)
    for places in runs:
        group = chosen if len(runs) == 1 else list(_within(chosen, places))
        padded += int(steps[places].max()) * len(places)
        applied += _run(group, table, runner)
    return TickReport(rows=len(steps), steps=int(steps.sum()), padded_steps=padded, applied=applied)


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


def _run(group: Sequence[Pieces], table: SessionTable, runner: Runner) -> int:
    """Run one group and commit it; where the run raises, by halves. Return the steps applied."""
    entries = join([pieces.entries for pieces in group])
    steps = join([pieces.steps for pieces in group])
    try:
        outputs, bad = runner.run(table.slot[entries], steps, _pack(group, runner, steps))
    except RunError as error:
        if len(entries) > 1:
            return sum(_run(half, table, runner) for half in _halves(group, len(entries)))
        _fail(group[0], table, RowStatus.MODEL_ERROR, str(error))
        return 0
    return _commit(group, table, runner, outputs, bad)


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
