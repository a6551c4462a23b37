"""What runs next: pure functions of columns, without a model and without a clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.columns import IntColumn, StatusColumn, occurrences
from carousel_server.engine.cost import RunCost
from carousel_server.engine.status import RowStatus


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one tick may hold."""

    rows: int  # pieces a tick
    steps: int  # steps a piece
    seconds: float  # a tick's time, as far as shorter pieces can keep it
    cost: RunCost
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
    return max(1, min(limits.steps, limits.cost.steps_within(limits.seconds, pieces)))


def groups(steps: IntColumn, limits: Limits) -> list[IntColumn]:
    """Divide pieces into runs: return for each run the places of its pieces.

    Where rows of a run can differ in length, pieces of all lengths share runs as it costs least:
    padding in one run, or a run more. Otherwise pieces of one length share a run.
    """
    if len(steps) == 1 or (steps == 1).all():
        runs = [np.arange(len(steps))]
    else:
        kinds = np.ceil(np.log2(steps)).astype(np.int64) if limits.ragged else steps
        order = np.argsort(kinds, kind="stable")
        cuts = (np.flatnonzero(np.diff(kinds[order])) + 1).tolist()
        if limits.ragged:
            cuts = _worthwhile(cuts, steps[order], limits.cost)
        runs = [np.sort(run) for run in np.split(order, cuts)]
    if not limits.batch:
        return runs
    return [
        run[first : first + limits.batch]
        for run in runs
        for first in range(0, len(run), limits.batch)
    ]


def _worthwhile(cuts: list[int], steps: IntColumn, cost: RunCost) -> list[int]:
    """Return those of the cuts between kinds that make all runs together cost least.

    The kinds are few, so every way of joining neighbours is looked at, each from the best way of
    those before it.
    """
    ends = [*cuts, len(steps)]
    longest = [int(part.max()) for part in np.split(steps, cuts)]
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for last, end in enumerate(ends):
        ways = []
        for first in range(last + 1):
            begin = ends[first - 1] if first else 0
            spent, made = best[first]
            run = cost.seconds(max(longest[first : last + 1]), end - begin)
            ways.append((spent + run, [*made, begin] if begin else made))
        best.append(min(ways))
    return best[-1][1]
