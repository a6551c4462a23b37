"""What an answer, a failure or an attachment does to blocks and rosters."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np

from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._answers import Answer, Row, one_row
from carousel_client._block import FIRST_ROW, NO_ROWS, Block, Roster
from carousel_client._columns import Ints, scatter, starts
from carousel_client._errors import (
    AnswersLost,
    CarouselError,
    OutOfOrder,
    SessionLost,
)
from carousel_client._replay import Keep

#: Statuses after which a session that outlives its server is looked for.
_STRAYS = frozenset(
    {
        pb.ROW_STATUS_STALE_HANDLE,
        pb.ROW_STATUS_MOVED,
        pb.ROW_STATUS_ALREADY_APPLIED,
        pb.ROW_STATUS_OUT_OF_ORDER,
    }
)


def settle(block: Block, rows: Ints, answer: Answer, notes: Mapping[int, str]) -> Ints:
    """Take in the answers to `rows` (n,) of a block, and return those that found no room: (m,).

    `notes` are the server's words about failed rows, by their place in the request.
    """
    if answer.bad or block.abandoned or answer.applied is None:
        return _settle_each(block, rows, answer, notes)
    roster, keep = block.roster, block.roster.keep
    if not block.replay:
        for name, values in answer.outputs.items():
            begins = block.starts[rows] + block.answered[rows]
            scatter(block.output(name, values), begins, answer.lengths, values)
        if keep is not None:
            keep.took(block, rows, answer.lengths, roster.applied[rows])
    block.answered[rows] += answer.lengths
    block.inflight[rows] = False
    if keep is None:
        roster.applied[rows] = answer.applied
    else:
        roster.applied[rows] += answer.lengths
        if answer.durable is not None:
            keep.cover(rows, np.minimum(answer.durable.astype(np.int64), roster.applied[rows]))
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
    if roster.keep is not None:
        _keep_one(roster.keep, block, row, found)
    if found.length and not block.replay:
        begin = int(block.starts[row] + block.answered[row])
        for name, values in found.outputs.items():
            block.output(name, values)[begin : begin + found.length] = values
    block.answered[row] += found.length
    block.inflight[row] = False
    if roster.keep is not None or found.applied is None:
        roster.applied[row] = known + found.length
    elif found.status not in faults.GONE:
        roster.applied[row] = found.applied
    if found.status == pb.ROW_STATUS_OK:
        if block.answered[row] >= block.lengths[row]:
            block.open -= 1
        elif block.abandoned:
            fail(block, row, out_of_time(roster, row))
        return False
    if found.status != pb.ROW_STATUS_BUSY and not _strays(block, row, found, note):
        _fail_row(block, row, found.status, note, known)
    return found.status == pb.ROW_STATUS_BUSY


def settle_whole(block: Block, row: int, found: Row) -> bool:
    """Take in the answer to a session alone if it is to all of a call, as most are; say whether."""
    roster, length = block.roster, found.length
    if len(block.lengths) > 1 or found.applied is None or block.replay:
        return False
    if length != block.lengths[row] or block.answered[row]:
        return False
    if roster.keep is not None:
        roster.keep.took(block, FIRST_ROW, block.lengths, roster.applied)
        if found.durable > roster.keep.floor[row]:
            durable = min(found.durable, int(roster.applied[row]) + length)
            roster.keep.cover(FIRST_ROW, np.array([durable]))
        roster.applied[row] += length
    else:
        roster.applied[row] = found.applied
    block.outputs = {name: values.copy() for name, values in found.outputs.items()}
    block.answered[row] = length
    block.inflight[row] = False
    block.open -= 1
    return True


def _keep_one(keep: Keep, block: Block, row: int, found: Row) -> None:
    """Keep the inputs that a row's answer covers, and forget those that the store does."""
    roster, rows = block.roster, np.array([row])
    if found.length and not block.replay:
        keep.took(block, rows, np.array([found.length]), roster.applied[rows])
    durable = min(found.durable, int(roster.applied[row]) + found.length)
    if durable > keep.floor[row]:
        keep.cover(rows, np.array([durable]))


def _strays(block: Block, row: int, found: Row, note: str) -> bool:
    """Whether a row of a session that outlives its server was refused because that isn't its own.

    It isn't where another server has the session, or where the two count differently: it then took
    in steps whose answers were lost, and goes back.
    """
    roster = block.roster
    if roster.keep is None or found.status not in _STRAYS:
        return False
    if found.status == pb.ROW_STATUS_STALE_HANDLE:
        roster.refused[row] = faults.from_row(
            found.status, note, session=roster.ids[row], applied=int(roster.applied[row])
        )
    roster.unsettle(np.array([row]))
    if block.abandoned:
        fail(block, row, out_of_time(roster, row))
    return True


def fail(block: Block, row: int, error: CarouselError) -> None:
    """Fail one row of a block, and the steps of that session that wait behind it."""
    if row in block.failures:
        return
    if block.replay:
        block.lengths[row] = block.answered[row]
        block.inflight[row] = False
        block.open -= 1
        lose(block.roster, row, _not_as_before(block.roster, row, error))
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
    if roster.keep is not None:
        roster.keep.forget(np.array([row]))
    for block in list(roster.blocks):
        if isinstance(block, Block) and block.answered[row] < block.lengths[row]:
            if block.replay:
                cancel(roster, np.array([row]))
            else:
                fail(block, row, copy.copy(error))


def cancel(roster: Roster, rows: Ints) -> None:
    """Stop sending again what rows (n,) were sent again: they are put back once more, or lost."""
    for block in roster.blocks:
        if isinstance(block, Block) and block.replay:
            left = block.answered[rows] < block.lengths[rows]
            block.open -= int(np.count_nonzero(left))
            block.lengths[rows] = block.answered[rows]
            block.inflight[rows] = False


def reattached(roster: Roster, row: int, applied: int) -> None:
    """Take in where a session stands that doesn't outlive its server, once it is attached again.

    What was on its way when the connection broke is sent again, unless the server has it.
    """
    block = _flying(roster, row)
    if block is not None:
        block.inflight[row] = False
    known = int(roster.applied[row])
    roster.applied[row] = applied
    if applied < known:
        lose(roster, row, went_back(roster.ids[row], applied, known))
    elif block is not None and applied > known:
        fail(block, row, _answers_lost(roster.ids[row], known, applied))
    elif block is not None and block.abandoned:
        fail(block, row, out_of_time(roster, row))


def land(roster: Roster, rows: Ints) -> None:
    """Note that nothing of rows (n,) is on its way any more, for nothing of it counts."""
    for block in list(roster.blocks):
        if isinstance(block, Block):
            flying = rows[block.inflight[rows]]
            block.inflight[flying] = False
            if block.abandoned:
                for row in flying.tolist():
                    fail(block, row, out_of_time(roster, row))


def _flying(roster: Roster, row: int) -> Block | None:
    for block in roster.blocks:
        if isinstance(block, Block) and block.inflight[row]:
            return block
    return None


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
    if status == pb.ROW_STATUS_INVALID and block.parts and not block.answered[row]:
        # A row is refused as a whole. Whose value it was shows when each goes alone, and those
        # before it are stepped.
        block.take_apart()
        return
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


def _not_as_before(roster: Roster, row: int, error: CarouselError) -> SessionLost:
    return SessionLost(
        f"session {roster.ids[row]!r}: a step that had run before did not run again at another "
        f"server, so the session's state is lost; open a new one: {error}",
        session=roster.ids[row],
        applied=int(roster.applied[row]),
    )


def went_back(session: str, applied: int, known: int) -> SessionLost:
    """Return the error of a session that stands before what its client can send again."""
    return SessionLost(
        f"session {session!r}: its server lost steps {applied} to {known - 1}; reset it or open a "
        "new one, and send its inputs again",
        session=session,
        applied=applied,
    )
