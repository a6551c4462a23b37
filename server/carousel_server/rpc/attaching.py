"""Taking sessions up: those that are here, and those that a server left behind.

A client says how many answers it holds of each session, and the session must not be further than
that in any way that the client can't follow. Where it is, because answers were lost on the way or
because a server is gone, it goes back to the newest checkpoint at or before the client's count, and
the client sends the steps behind it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from carousel_server import log
from carousel_server.catalog import Catalog, Served
from carousel_server.engine import controls, transfers
from carousel_server.engine.directory import Directory
from carousel_server.engine.marks import Mark
from carousel_server.engine.sessions import Origin
from carousel_server.engine.status import RowStatus
from carousel_server.errors import (
    SessionNotFound,
    SessionsMoved,
    SnapshotMismatch,
    StoreAway,
)
from carousel_server.keeping.keeping import Keeping
from carousel_server.keeping.records import place_to_go_on
from carousel_server.keeping.verifying import verify_some
from carousel_server.rpc.completing import completed
from carousel_server.store.interface import Held, Record

_NOWHERE = "no checkpoint at or before what was delivered"


@dataclass(slots=True)
class Taken:
    """What became of each of N sessions; columns of N."""

    handles: NDArray[np.uint64]
    applied: NDArray[np.int64]
    durable: NDArray[np.int64]
    status: NDArray[np.uint8]
    moved: list[tuple[str, str]] = field(default_factory=list)  # id, address

    @classmethod
    def nothing(cls, count: int) -> Taken:
        """Return columns of sessions of which none was found."""
        zeros = np.zeros((2, count), np.int64)
        missing = np.full(count, RowStatus.NOT_FOUND, np.uint8)
        return cls(np.zeros(count, np.uint64), zeros[0], zeros[1], missing)


class Attaching:
    """Attaches to sessions of one version of one model, by id."""

    def __init__(self, catalog: Catalog, directory: Directory, keeping: Keeping) -> None:
        self._catalog = catalog
        self._directory = directory
        self._keeping = keeping

    async def attach(
        self, name: str, ids: list[str], delivered: NDArray[np.int64] | None, *, each: bool
    ) -> tuple[Served, Taken]:
        """Take sessions up: all or none, or with `each` those that can be had.

        Raises:
            ModelNotFound: there is no such model.
            SessionNotFound: without `each`, if one is nowhere.
            SessionsMoved: without `each`, if living servers have some.
            SnapshotMismatch: a session was another version's, whose states differ.
            NoRoom: there are as many sessions as there may be.
            StoreAway: the store does not answer, and is needed.
            TakeOverWaits: the store has not answered for long enough.

        """
        # A client that goes away half-way leaves no session with neither a place nor an owner.
        return await completed(self._attach(name, ids, delivered, each=each))

    async def _attach(
        self, name: str, ids: list[str], delivered: NDArray[np.int64] | None, *, each: bool
    ) -> tuple[Served, Taken]:
        self._catalog.find(name)
        async with self._keeping.passage.of(ids):
            await self._lay_doubts(name, ids)
            moved = await self._take_over(name, ids, delivered, each=each)
            model = self._model_of(name, ids)
            taken = Taken.nothing(len(ids))
            taken.moved = moved
            if each:
                here = [row for row, i in enumerate(ids) if self._directory.has(i, model.number)]
                elsewhere = {session for session, _ in moved}
                taken.status[[row for row, i in enumerate(ids) if i in elsewhere]] = RowStatus.MOVED
            else:
                if moved:
                    raise SessionsMoved(moved)
                here = list(range(len(ids)))
            if here:
                await self._attach_here(model, ids, np.array(here), delivered, taken)
        if not each and (lost := np.flatnonzero(taken.status)).size:
            raise SessionNotFound([ids[row] for row in lost.tolist()], _NOWHERE)
        return model, taken

    async def _lay_doubts(self, name: str, ids: list[str]) -> None:
        """Find out which of the sessions others may have taken over.

        Where the store is away nobody can say it: then they go on here till it is back.
        """
        if not self._keeping.in_doubt:
            return
        with suppress(StoreAway):
            for model in self._catalog.versions(name):
                await verify_some(model, ids)

    async def _attach_here(
        self,
        model: Served,
        ids: list[str],
        rows: NDArray[np.int64],
        delivered: NDArray[np.int64] | None,
        taken: Taken,
    ) -> None:
        wanted = [ids[row] for row in rows.tolist()]
        attached = await model.driver.control(controls.Attach(wanted))
        taken.handles[rows], taken.status[rows] = attached.handles, RowStatus.OK
        taken.applied[rows], taken.durable[rows] = attached.applied, attached.durable
        further = np.zeros(len(rows), np.bool_)
        if delivered is not None:
            further = attached.applied > delivered[rows]
            if further.any():
                await self._go_back(model, ids, rows[further], delivered, taken)
        if len(owed := taken.handles[rows[attached.owed & ~further]]):
            # They were put back before, and the store did not take it then.
            acted = await model.driver.control(transfers.begun(owed))
            if acted.value:
                await model.keeper.kept(acted.value)

    async def _go_back(
        self,
        model: Served,
        ids: list[str],
        rows: NDArray[np.int64],
        delivered: NDArray[np.int64],
        taken: Taken,
    ) -> None:
        """Put sessions that are further than their clients to where these can go on."""
        records = await self._keeping.load([ids[row] for row in rows.tolist()])
        places = [
            _place(model, record, int(delivered[row]))
            for row, record in zip(rows.tolist(), records, strict=True)
        ]
        control = transfers.put_back(taken.handles[rows], places, or_begin=True)
        acted = await model.driver.control(control)
        if acted.value is None:
            return  # they have left meanwhile, and whoever steps them hears of it
        there = rows[acted.status == 0]
        taken.status[there[~acted.value.found]] = RowStatus.NOT_FOUND
        gathered = acted.value.gathered
        if len(gathered.ids) and self._keeping.wants(gathered):
            # Before anybody goes on from there, the store must have forgotten what was further on.
            await model.keeper.kept(gathered)
        good = there[acted.value.found]
        taken.applied[good] = taken.durable[good] = gathered.steps

    async def _take_over(
        self, name: str, ids: list[str], delivered: NDArray[np.int64] | None, *, each: bool
    ) -> list[tuple[str, str]]:
        """Claim those sessions that are not here; return (id, address) of what others have."""
        if not self._keeping.shared:
            return []
        absent = [row for row, i in enumerate(ids) if not self._directory.knows(i)]
        if not absent:
            return []
        counts = None if delivered is None else delivered[absent].tolist()
        found = await self._keeping.claim([ids[row] for row in absent], counts)
        claimed = [
            (record, count)
            for record, count in zip(found, counts or [None] * len(absent), strict=True)
            if isinstance(record, Record)
        ]
        try:
            await self._adopt(name, claimed, each=each)
        finally:
            # What can't go on here may do so elsewhere.
            left = [record for record, _ in claimed if not self._directory.knows(record.id)]
            if left:
                await self._keeping.release_some(
                    [record.id for record in left], [record.token for record in left]
                )
        moved = [(held.id, held.owner.address) for held in found if isinstance(held, Held)]
        if moved and not each:
            self._keeping.be_sure()
        return moved

    async def _adopt(
        self, name: str, records: Sequence[tuple[Record, int | None]], *, each: bool
    ) -> None:
        """Open claimed sessions here, where they can go on."""
        by_model: dict[int, list[tuple[Record, Mark]]] = {}
        nowhere: list[str] = []
        misfit: SnapshotMismatch | None = None
        for record, count in records:
            if record.header.model != name:
                continue  # as if it were not there
            try:
                model = self._model_for(name, record)
            except SnapshotMismatch as error:
                misfit = misfit or error
                continue
            place = _place(model, record, count)
            if place is None:
                nowhere.append(record.id)
            else:
                by_model.setdefault(model.number, []).append((record, place))
        for number, group in by_model.items():
            served = self._catalog.by_number(number)
            assert served is not None
            await self._open_claimed(served, group)
        if misfit:
            raise misfit
        if nowhere and not each:
            raise SessionNotFound(nowhere, _NOWHERE)

    async def _open_claimed(self, model: Served, group: Sequence[tuple[Record, Mark]]) -> None:
        states = {
            state.name: np.stack(
                [place.states.get(state.name, state.initial) for _, place in group]
            )
            for state in model.spec.states
        }
        origin = Origin(
            applied=np.array([place.step for _, place in group]),
            tokens=np.array([record.token for record, _ in group]),
            stored=True,
            opened=np.array([record.header.opened for record, _ in group]),
            initial=np.array([record.header.initial for record, _ in group]),
        )
        ids = [record.id for record, _ in group]
        await model.driver.control(controls.Open(ids, states, origin))
        recorder = model.keeper.recorder
        marks = [
            (record.id, name, recorder.mark(record.header, checkpoint))
            for record, _ in group
            for name, checkpoint in record.marks
        ]
        if marks:
            await model.driver.control(transfers.RestoreMarks(marks))
        log.get().info("sessions taken over", model=model.name, sessions=len(group))

    def _model_for(self, name: str, record: Record) -> Served:
        """Return the version that a claimed session goes on with: its own, or one like it.

        Raises:
            ModelNotFound: the model is not here.
            SnapshotMismatch: no version here has the same states.

        """
        versions = {model.version: model for model in self._catalog.versions(name)}
        model = versions.get(record.header.version) or self._catalog.find(name)
        if why := model.keeper.recorder.difference(record.header):
            raise SnapshotMismatch(
                f"session {record.id!r} of {record.header.model}/{record.header.version} can't go "
                f"on with {model.name}/{model.version}: {why}",
                damaged=False,
            )
        return model

    def _model_of(self, name: str, ids: list[str]) -> Served:
        """Return the version of a model that the sessions run; the first one here says which."""
        versions = self._catalog.versions(name)
        if len(versions) > 1:
            for session in ids:
                for model in versions:
                    if self._directory.has(session, model.number):
                        return model
        return self._catalog.find(name)


def _place(model: Served, record: Record | None, delivered: int | None) -> Mark | None:
    """Return where a session goes on; None: nowhere that its client could follow."""
    if record is None:
        return None
    checkpoint = place_to_go_on(record, delivered)
    if checkpoint is not None:
        return model.keeper.recorder.mark(record.header, checkpoint)
    return transfers.BEGINNING if record.header.initial else None
