"""What an answer, a failure or an attachment does to blocks and rosters."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._answers import Answer
from carousel_client._block import Block, Roster
from carousel_client._columns import Ints, scatter
from carousel_client._errors import (
    AnswersLost,
    CarouselError,
    OutOfOrder,
    SessionLost,
)


def settle(block: Block, rows: Ints, answer: Answer, notes: Sequence[str]) -> Ints:
    """Take in the answers to `rows` (n,) of a block, and return those that found no room: (m,).

    `notes` are the server's words about each row that failed, empty where there are none.
    """
    roster = block.roster
    for name, values in answer.outputs.items():
        begins = block.starts[rows] + block.answered[rows]
        scatter(block.output(name, values), begins, answer.lengths, values)
    known = roster.applied[rows]
    block.answered[rows] += answer.lengths
    block.inflight[rows] = False
    good = answer.status == pb.ROW_STATUS_OK
    _count(roster, rows, answer, known)
    finished = good & (block.answered[rows] >= block.lengths[rows])
    block.open -= int(np.count_nonzero(finished))
    if block.abandoned:
        for row in rows[good & ~finished]:
            fail(block, int(row), out_of_time(roster, int(row)))
    busy = answer.status == pb.ROW_STATUS_BUSY
    for place in np.flatnonzero(~good & ~busy).tolist():
        status = int(answer.status[place])
        _fail_row(block, int(rows[place]), status, notes[place], int(known[place]))
    crowded: Ints = rows[busy]
    return crowded


def fail(block: Block, row: int, error: CarouselError) -> None:
    """Fail one row of a block, and the steps of that session that wait behind it."""
    if row in block.failures:
        return
    block.failures[row] = error
    block.inflight[row] = False
    block.open -= 1
    blocks = [waiting for waiting in block.roster.blocks if isinstance(waiting, Block)]
    for later in blocks[blocks.index(block) + 1 :] if block in blocks else ():
        if later.lengths[row] and row not in later.failures:
            later.failures[row] = not_run(block.roster, row, error)
            later.open -= 1


def fail_rows(block: Block, rows: Ints, error: CarouselError) -> None:
    """Fail some rows of a block, (n,), all for one reason."""
    for row in rows:
        own = copy.copy(error)
        own.session = block.roster.ids[row]
        own.applied = int(block.roster.applied[row])
        fail(block, int(row), own)


def lose(roster: Roster, row: int, error: CarouselError) -> None:
    """Note that a session can't be stepped any more, and fail what waits for it."""
    roster.gone[row] = error
    for block in roster.blocks:
        if isinstance(block, Block) and block.answered[row] < block.lengths[row]:
            fail(block, row, copy.copy(error))


def reattach(
    roster: Roster, server_id: int, rows: Sequence[tuple[int, int] | CarouselError]
) -> None:
    """Take in what attaching gave each row: handle and applied, or why it is lost.

    What was on its way when the connection broke is sent again, unless the server has it.
    """
    first = next((block for block in roster.blocks if isinstance(block, Block)), None)
    for row, found in enumerate(rows):
        flying = first is not None and bool(first.inflight[row])
        if first is not None:
            first.inflight[row] = False
        if isinstance(found, CarouselError):
            lose(roster, row, found)
            continue
        known, applied = int(roster.applied[row]), found[1]
        roster.handles[row], roster.applied[row] = found
        if applied < known:
            lose(roster, row, _went_back(roster.ids[row], applied, known))
        elif first is not None and flying and applied > known:
            fail(first, row, _answers_lost(roster.ids[row], known, applied))
        elif first is not None and flying and first.abandoned:
            fail(first, row, out_of_time(roster, row))
    roster.uncertain = False
    roster.server_id = server_id


def not_run(roster: Roster, row: int, cause: CarouselError) -> OutOfOrder:
    """Return the error of steps that were queued behind one that failed."""
    return OutOfOrder(
        f"session {roster.ids[row]!r}: not run, because an earlier step failed: {cause}",
        session=roster.ids[row],
        applied=int(roster.applied[row]),
    )


def out_of_time(roster: Roster, row: int) -> CarouselError:
    """Return the error of steps that nobody waits for any more."""
    return faults.from_row(
        pb.ROW_STATUS_DEADLINE, "", session=roster.ids[row], applied=int(roster.applied[row])
    )


def _count(roster: Roster, rows: Ints, answer: Answer, known: np.ndarray) -> None:
    """Set how many steps each session's state has taken in."""
    if answer.applied is None:
        roster.applied[rows] = known + answer.lengths.astype(np.uint64)
    elif not answer.bad:
        roster.applied[rows] = answer.applied
    else:
        valid = ~np.isin(answer.status, list(faults.GONE))
        roster.applied[rows[valid]] = answer.applied[valid]


def _fail_row(block: Block, row: int, status: int, note: str, known: int) -> None:
    roster = block.roster
    session, applied = roster.ids[row], int(roster.applied[row])
    if status == pb.ROW_STATUS_ALREADY_APPLIED:
        fail(block, row, _answers_lost(session, known, applied))
        return
    error = faults.from_row(status, note, session=session, applied=applied)
    if status in faults.GONE:
        roster.gone[row] = error
    fail(block, row, error)


def _answers_lost(session: str, known: int, applied: int) -> AnswersLost:
    return AnswersLost(
        f"session {session!r}: steps {known} to {applied - 1} were applied, but the connection "
        f"broke before their answers came; the session goes on from step {applied}",
        steps=range(known, applied),
        session=session,
        applied=applied,
    )


def _went_back(session: str, applied: int, known: int) -> SessionLost:
    return SessionLost(
        f"session {session!r}: its server lost steps {applied} to {known - 1}; reset it or open a "
        "new one, and send its inputs again",
        session=session,
        applied=applied,
    )
