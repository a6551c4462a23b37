"""Which rows may run now: of those whose turn it is, the ones that nothing speaks against."""

from __future__ import annotations

from carousel_server.engine import outcome, scheduler
from carousel_server.engine.cohort import Cohort
from carousel_server.engine.columns import IntColumn, StatusColumn
from carousel_server.engine.table import SessionTable


def screen(cohort: Cohort, table: SessionTable) -> int:
    """Find the rows that may run, into `cohort.turn`, and fail those that can't; say how many.

    A row that fails ends its turn, and the next one's of its session comes.
    """
    failed = 0
    while True:
        rows = cohort.ready(table.head)
        if not len(rows) or _all_may_run(cohort, table, rows):
            break
        status = _statuses(cohort, table, rows)
        lost = status != 0
        if not lost.any():
            break
        outcome.fail(cohort, table, rows[lost], status[lost])
        failed += int(lost.sum())
    cohort.turn = rows
    return failed


def _all_may_run(cohort: Cohort, table: SessionTable, rows: IntColumn) -> bool:
    """Return whether nothing can speak against the rows: true nearly always, and cheap to see."""
    return (
        cohort.epoch == table.epoch
        and not cohort.faulty
        and cohort.deadline is None
        and not table.failed
        and cohort.in_order(rows, table.applied[cohort.entries[rows]])
    )


def _statuses(cohort: Cohort, table: SessionTable, rows: IntColumn) -> StatusColumn:
    entries = cohort.entries[rows]
    return scheduler.screen(
        status=cohort.status[rows],
        valid=table.resolve(cohort.handles[rows])[1],
        tickets=cohort.tickets[rows],
        barrier=table.barrier[entries],
        expected=cohort.expected_step(rows),
        applied=table.applied[entries],
        late=None if cohort.deadline is None else cohort.deadline[rows] < table.now,
    )
