"""Sessions that came to a server: what they go on from there with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from carousel.v1 import sessions_pb2 as pb
from carousel.v1 import states_pb2
from carousel_client._arrays import Chunks
from carousel_client._attaching import Attached
from carousel_client._block import Barrier, Block, Roster
from carousel_client._calls import OPEN, RESTORE, Call
from carousel_client._columns import Ints
from carousel_client._errors import SessionLost
from carousel_client._exchange import Exchange
from carousel_client._failover import Failover
from carousel_client._hosts import Host
from carousel_client._outcomes import cancel, land, lose, reattached, went_back
from carousel_client._packing import tensors


@dataclass(frozen=True, slots=True)
class Landing:
    """The sessions of one client that come to servers; `now` is the time."""

    exchange: Exchange
    now: float

    def attached(self, roster: Roster, rows: Ints, host: Host, found: Attached) -> None:
        """Note that rows (n,) are at a host now, and go on with them from where they stand there.

        The columns of `found` are of these rows.
        """
        roster.handles[rows] = found.handles
        if roster.keep is None:
            roster.place(rows, host)
            for row, stands in zip(rows.tolist(), found.applied.tolist(), strict=True):
                reattached(roster, row, stands)
            return
        self._record(roster, rows, host)
        held = roster.held(rows)
        land(roster, rows)
        cancel(roster, rows)
        roster.applied[rows] = found.applied
        roster.place(rows, host)
        roster.keep.target[rows] = held
        if not loose(roster):
            self._bring_back(roster, rows, held, found)

    def _bring_back(self, roster: Roster, rows: Ints, held: Ints, found: Attached) -> None:
        """Bring rows (n,) to where they were, `held` steps on, or say that it can't be done."""
        keep, applied = roster.keep, found.applied
        assert keep is not None
        good = (keep.floor[rows] <= applied) & (applied <= held)
        for place in np.flatnonzero(~good).tolist():
            row = int(rows[place])
            error = went_back(roster.ids[row], int(applied[place]), int(held[place]))
            lose(roster, row, error)
        keep.cover(rows[good], np.minimum(found.durable, applied)[good])
        behind = good & (applied < held)
        if not behind.any():
            return
        blocks = []
        for stretch in keep.stretches(rows[behind], applied[behind], held[behind]):
            lengths = np.zeros(len(roster.ids), np.int64)
            lengths[stretch.rows] = stretch.lengths
            blocks.append(Block(roster, Chunks(stretch.inputs, lengths, "ragged"), replay=True))
        self.exchange.replay(roster, blocks)
        if self.exchange.failover is not None:
            self.exchange.failover.replayed += int((held - applied)[behind].sum())

    def _record(self, roster: Roster, rows: Ints, host: Host) -> None:
        """Note for the record that sessions went from one server to another."""
        if self.exchange.failover is None:
            since = roster.away_since
            self.exchange.failover = Failover(self.now if since is None else since)
        event = self.exchange.failover
        event.targets.add(host.address)
        for row in rows.tolist():
            event.sessions.add(roster.ids[row])
            number = roster.last.get(row, int(roster.at[row]))
            if number >= 0:
                event.sources.add(self.exchange.hosts[number].address)


def open_again(roster: Roster, rows: Ints, host: Host, timeout: float) -> Call:
    """Return the call that opens sessions again as they were opened first."""
    assert roster.keep is not None
    assert roster.keep.origin is not None
    origin, model = roster.keep.origin, roster.model
    ids = [roster.ids[row] for row in rows.tolist()]
    if origin.snapshots:
        restore = states_pb2.RestoreRequest(
            model=model.name,
            version=model.version,
            ids=ids,
            snapshots=[origin.snapshots[row] for row in rows.tolist()],
        )
        return Call(RESTORE, restore, timeout, host.address, "snapshot")
    request = pb.OpenRequest(
        model=model.name,
        version=model.version,
        ids=ids,
        count=len(ids),
        initial_states=tensors({name: array[rows] for name, array in origin.states.items()}),
    )
    return Call(OPEN, request, timeout, host.address, "model")


def opened_again(roster: Roster, rows: Ints, handles: bytes) -> Attached:
    """Return what opening rows (n,) of a roster again comes to: they stand at their origin."""
    assert roster.keep is not None
    assert roster.keep.origin is not None
    begins = roster.keep.origin.step[rows]
    return Attached(
        np.zeros(len(rows), np.uint8),
        np.frombuffer(handles, "<u8"),
        begins,
        np.zeros(len(rows), np.int64),
    )


def loose(roster: Roster) -> bool:
    """Whether what comes next does away with where the sessions stand."""
    for waiting in roster.blocks:
        if not (isinstance(waiting, Block) and waiting.replay):
            return isinstance(waiting, Barrier) and waiting.loose
    return False


def lost(roster: Roster, row: int) -> SessionLost:
    """Return the error of a session that no server has."""
    session = roster.ids[row]
    return SessionLost(
        f"session {session!r}: its server is gone, and the state with it; open a new one",
        session=session,
        applied=int(roster.held(np.array([row]))[0]),
    )
