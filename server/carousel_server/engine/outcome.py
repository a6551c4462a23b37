"""How rows end: well, or with a status and a reason."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.cohort import Cohort
from carousel_server.engine.columns import IntColumn
from carousel_server.engine.status import RowStatus
from carousel_server.engine.table import SessionTable

_INVALID_HANDLE = (
    RowStatus.STALE_HANDLE,
    RowStatus.NOT_FOUND,
    RowStatus.EXPIRED,
    RowStatus.MOVED,
)


def finish(cohort: Cohort, table: SessionTable, rows: IntColumn) -> None:
    """End rows that came to their end; their sessions go on with what is queued behind them."""
    entries = cohort.entries[rows]
    table.finish(entries)
    cohort.finish(rows, table.applied[entries], table.durable[entries])


def fail(
    cohort: Cohort,
    table: SessionTable,
    rows: IntColumn,
    status: NDArray[np.uint8],
    detail: str = "",
) -> None:
    """End rows that can't go on; what is queued behind them for the same sessions fails too.

    A row whose handle has become invalid is no longer the session's: whoever has the session or
    its entry now does not feel it, and the row is not told where that session stands.
    """
    cohort.status[rows] = status
    for row in rows.tolist():
        cohort.explain(row, _why(cohort, table, row, detail))
    entries = cohort.entries[rows]
    own = ~np.isin(status, _INVALID_HANDLE)
    table.fail(entries[own])
    table.finish(entries)
    cohort.finish(
        rows, np.where(own, table.applied[entries], 0), np.where(own, table.durable[entries], 0)
    )


def _why(cohort: Cohort, table: SessionTable, row: int, detail: str) -> str:
    entry = cohort.entries[row]
    applied = int(table.applied[entry])
    status = RowStatus(cohort.status[row])
    if status is RowStatus.OUT_OF_ORDER and cohort.tickets[row] < table.barrier[entry]:
        return f"an earlier row of this session failed; the session is at step {applied}"
    if status in (RowStatus.OUT_OF_ORDER, RowStatus.ALREADY_APPLIED):
        begins = int(cohort.expected_step(np.array([row]))[0])
        return f"the chunk begins at step {begins}, the session is at step {applied}"
    words = {
        RowStatus.STALE_HANDLE: "the handle became invalid while the row was queued: the session "
        "was closed, or attached elsewhere",
        RowStatus.EXPIRED: "the session was idle for too long and is gone",
        RowStatus.MOVED: "the session left this server while the row was queued; attach again",
        RowStatus.DEADLINE: f"the message's time ran out; the session is at step {applied}",
        RowStatus.NUMERIC_FAULT: "the model's new state or output is not finite; the session "
        f"stays at step {applied}",
        RowStatus.MODEL_ERROR: f"the model failed: {detail}; the session stays at step {applied}",
    }
    return words.get(status, status.name)
