"""How rows get their places: handles to entries, tickets, and what is wrong from the start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.cohort import Cohort
from carousel_server.engine.status import RowStatus
from carousel_server.engine.table import SessionTable

#: Why a row has no place in its session's order.
_WORDS = {
    RowStatus.STALE_HANDLE: "the handle is no longer valid: the session was closed, or attached "
    "elsewhere",
    RowStatus.NOT_FOUND: "no session has this handle",
    RowStatus.EXPIRED: "the session was idle for too long and is gone",
    RowStatus.MOVED: "another server has the session, or may take it up; attach to it again",
    RowStatus.DUPLICATE: "the handle stands in an earlier row of this message; join their chunks",
}


def admit(cohort: Cohort, table: SessionTable) -> None:
    """Give the rows of a cohort their places behind all that came before.

    Rows without a session, and second rows of one in a message, are over at once. A row with a
    faulty input still takes its place: what is queued behind it must not run before it has failed.
    """
    cohort.entries, status = table.resolve(cohort.handles)
    cohort.epoch = table.epoch
    if cohort.rows > 1:
        _mark_duplicates(cohort, table, status)
    if status.any():
        _turn_away(cohort, table, status)
    alone = len(cohort.batches) == 1  # then no entry stands there twice
    if len(cohort.pending) == cohort.rows:
        cohort.tickets = table.draw(cohort.entries, unique=alone)
    else:
        own = cohort.entries[cohort.pending]
        cohort.tickets[cohort.pending] = table.draw(own, unique=alone)
    for row, why in cohort.faults:
        if cohort.status[row] == 0:
            cohort.status[row] = RowStatus.INVALID
            cohort.faulty = True
            cohort.explain(row, why)


def _mark_duplicates(cohort: Cohort, table: SessionTable, status: NDArray[np.uint8]) -> None:
    bounds = cohort.first_row
    for index, batch in enumerate(cohort.batches):
        if batch.rows == 1:
            continue
        of_batch = slice(bounds[index], bounds[index + 1])
        first = table.first_places(cohort.entries[of_batch])
        if first is not None:
            again = (status[of_batch] == 0) & ~first
            status[of_batch][again] = RowStatus.DUPLICATE


def _turn_away(cohort: Cohort, table: SessionTable, status: NDArray[np.uint8]) -> None:
    rows = np.flatnonzero(status)
    cohort.status[rows] = status[rows]
    for row in rows.tolist():
        cohort.explain(row, _WORDS[RowStatus(cohort.status[row])])
    entries = cohort.entries[rows]
    cohort.finish(rows, table.applied[entries], table.durable[entries])
