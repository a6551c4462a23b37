"""What runs next: pure functions of columns, without a model and without a clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.columns import IntColumn, StatusColumn, occurrences
from carousel_server.engine.status import RowStatus


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one tick may hold."""

    rows: int  # pieces a tick
    steps: int  # steps a piece
    row_steps: int  # pieces times steps a tick, but for pieces of one step
    batch: int  # rows a run; 0: no bound
    ragged: bool  # whether rows of different lengths may share a run


def screen(
    *,
    status: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    tickets: IntColumn,
    barrier: IntColumn,
    expected: IntColumn,
    applied: IntColumn,
    late: NDArray[np.bool_] | None,
) -> StatusColumn:
    """Return the status of rows whose turn it is: 0 where they may run.

    Args:
        status: what was found when the row arrived; 0: nothing.
        valid: what has become of the row's handle since; 0: it is valid.
        tickets: the rows' tickets.
        barrier: tickets below it were queued behind a failed row.
        expected: the count at which the row goes on; -1: it does not say.
        applied: the session's count.
        late: whether the row's time is over; None: no row has a deadline.

    """
    result = np.where(valid != 0, valid, status)
    ahead = (expected > applied) | (tickets < barrier)
    behind = (expected >= 0) & (expected < applied)
    result = np.where((result == 0) & ahead, RowStatus.OUT_OF_ORDER, result)
    result = np.where((result == 0) & behind, RowStatus.ALREADY_APPLIED, result)
    if late is not None:
        result = np.where((result == 0) & late, RowStatus.DEADLINE, result)
    return result.astype(np.uint8)


def even_shares(streams: IntColumn, count: int) -> IntColumn:
    """Choose `count` of the rows of some streams: return their places, in ascending order.

    Every stream gives its first row, then its second one, and so on until there are enough: one
    that sends thousands of rows leaves their places to those that send few.
    """
    if len(streams) <= count:
        return np.arange(len(streams))
    order = np.argsort(occurrences(streams), kind="stable")
    return np.sort(order[:count])


def piece_steps(pieces: int, limits: Limits) -> int:
    """Return how many steps each of so many pieces may have.

    A tick is as long as its runs are, and whoever comes next waits for it: many pieces are short,
    few may be longer.
    """
    return max(1, min(limits.steps, limits.row_steps // pieces))


def groups(steps: IntColumn, limits: Limits) -> list[IntColumn]:
    """Divide pieces into runs: return for each run the places of its pieces.

    Pieces whose lengths lie between the same powers of two share a run, so that less than half of
    it is padding; where rows of a run can't differ in length, pieces of one length share it.
    """
    if len(steps) == 1 or (steps == 1).all():
        runs = [np.arange(len(steps))]
    else:
        kinds = np.ceil(np.log2(steps)).astype(np.int64) if limits.ragged else steps
        order = np.argsort(kinds, kind="stable")
        cuts = np.flatnonzero(np.diff(kinds[order])) + 1
        runs = np.split(order, cuts)
    if not limits.batch:
        return runs
    return [
        run[first : first + limits.batch]
        for run in runs
        for first in range(0, len(run), limits.batch)
    ]
