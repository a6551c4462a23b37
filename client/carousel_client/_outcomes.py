"""What an answer, a failure or an attachment does to blocks and rosters."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._answers import Answer, Row, one_row
from carousel_client._block import NO_ROWS, Block, Roster
from carousel_client._columns import Ints, scatter, starts
from carousel_client._errors import (
    AnswersLost,
    CarouselError,
    OutOfOrder,
    SessionLost,
)


def settle(block: Block, rows: Ints, answer: Answer, notes: Mapping[int, str]) -> Ints:
    """Take in the answers to `rows` (n,) of a block, and return those that found no room: (m,).

    `notes` are the server's words about failed rows, by their place in the request.
    """
    if answer.bad or block.abandoned or answer.applied is None:
        return _settle_each(block, rows, answer, notes)
    for name, values in answer.outputs.items():
        begins = block.starts[rows] + block.answered[rows]
        scatter(block.output(name, values), begins, answer.lengths, values)
    block.answered[rows] += answer.lengths
    block.inflight[rows] = False
    block.roster.applied[rows] = answer.applied
    block.open -= int(np.count_nonzero(block.answered[rows] >= block.lengths[rows]))
    return NO_ROWS


def _settle_each(block: Block, rows: Ints, answer: Answer, notes: Mapping[int, str]) -> Ints:
    begins = starts(answer.lengths)
    busy = []
    for place, row in enumerate(rows.tolist()):
        found = one_row(answer, place, int(begins[place]))
        note = notes.get(int(answer.rows[place]), "")
        if settle_one(block, row, found, note):
            busy.append(row)
    return np.array(busy, np.int64)


def settle_one(block: Block, row: int, found: Row, note: str) -> bool:
    """Take in the answer to one row of a block, and say whether it found no room."""
    roster = block.roster
    known = int(roster.applied[row])
    if found.length:
        begin = int(block.starts[row] + block.answered[row])
        for name, values in found.outputs.items():
            block.output(name, values)[begin : begin + found.length] = values
        block.answered[row] += found.length
    block.inflight[row] = False
    if found.status not in faults.GONE:
        roster.applied[row] = known + found.length if found.applied is None else found.applied
    if found.status == pb.ROW_STATUS_OK:
        if block.answered[row] >= block.lengths[row]:
            block.open -= 1
        elif block.abandoned:
            fail(block, row, out_of_time(roster, row))
        return False
    if found.status != pb.ROW_STATUS_BUSY:
        _fail_row(block, row, found.status, note, known)
    return found.status == pb.ROW_STATUS_BUSY


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
