"""The calls that take states out of sessions, put them back, and copy them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel import wire
from carousel.v1 import states_pb2
from carousel_server.catalog import Catalog, Served
from carousel_server.engine import transfers
from carousel_server.engine.checkpoints import Gathered
from carousel_server.engine.controls import Acted
from carousel_server.engine.marks import Mark
from carousel_server.engine.status import RowStatus
from carousel_server.engine.transfers import Rewound
from carousel_server.errors import InvalidRequest, SnapshotMismatch, shown
from carousel_server.keeping.keeping import Keeping
from carousel_server.keeping.records import place_to_go_on
from carousel_server.lifecycle import Lifecycle
from carousel_server.reading import States
from carousel_server.rpc.columns import read_handles
from carousel_server.rpc.handles import Handles, column
from carousel_server.rpc.ids import new_ids
from carousel_server.rpc.opening import Opening
from carousel_server.rpc.snapshots import Snapshots


class StateCalls:
    """Snapshot, Restore, Fork, Mark, Rewind and GetState."""

    def __init__(
        self,
        catalog: Catalog,
        lifecycle: Lifecycle,
        *,
        handles: Handles,
        opening: Opening,
        keeping: Keeping,
        snapshots: Snapshots,
        most: int,
    ) -> None:
        """Take what is needed; `most` sessions at a time can be made."""
        self._catalog = catalog
        self._lifecycle = lifecycle
        self._handles = handles
        self._opening = opening
        self._keeping = keeping
        self._snapshots = snapshots
        self._most = most

    async def snapshot(self, request: states_pb2.SnapshotRequest) -> states_pb2.SnapshotResponse:
        """Copy states out."""
        model = self._handles.model(request)
        control = transfers.copy_out(read_handles(request.handles))
        acted = await self._handles.act(request, model, control)
        snapshots = [b""] * len(acted.status)
        if acted.value:
            await _come(acted.value)
            written = self._snapshots.write(model, acted.value)
            for row, data in zip(np.flatnonzero(acted.status == 0).tolist(), written, strict=True):
                snapshots[row] = data
        return states_pb2.SnapshotResponse(status=column(acted), snapshots=snapshots)

    async def restore(self, request: states_pb2.RestoreRequest) -> states_pb2.RestoreResponse:
        """Open sessions from snapshots."""
        self._lifecycle.refuse_when_draining()
        model = self._catalog.find_open(request.model, request.version)
        count = len(request.snapshots)
        if not count or len(request.ids) not in (0, count):
            raise InvalidRequest(
                f"one or more snapshots, and an id for each or none, were expected; {count} "
                f"snapshots and {len(request.ids)} ids came"
            )
        ids = new_ids(request.ids, 0 if request.ids else count, self._most)
        read = [self._read(model, row, data) for row, data in enumerate(request.snapshots)]
        states = {
            state.name: np.stack([own[state.name] for _, own in read])
            for state in model.spec.states
        }
        opened = await self._opening.open(model, ids, states, np.array([step for step, _ in read]))
        return states_pb2.RestoreResponse(
            server_id=self._lifecycle.server_id,
            model=model.name,
            version=self._catalog.current(model).version,
            ids=ids,
            handles=opened.handles.tobytes(),
            applied=_counts(opened.applied),
        )

    async def fork(self, request: states_pb2.ForkRequest) -> states_pb2.ForkResponse:
        """Open copies of a session."""
        model = self._handles.model(request)
        ids = new_ids(request.ids, request.count, self._most)
        control = transfers.copy_out(np.array([request.handle], np.uint64))
        acted = await self._handles.act(request, model, control)
        if acted.value is None:
            return states_pb2.ForkResponse(status=int(acted.status[0]))
        await _come(acted.value)
        states: States = {
            name: np.broadcast_to(values, (len(ids), *values.shape[1:]))
            for name, values in acted.value.states.items()
        }
        applied = np.broadcast_to(acted.value.steps, len(ids))
        opened = await self._opening.open(model, ids, states, applied)
        return states_pb2.ForkResponse(
            ids=ids, handles=opened.handles.tobytes(), applied=_counts(opened.applied)
        )

    async def mark(self, request: states_pb2.MarkRequest) -> states_pb2.MarkResponse:
        """Name the places where sessions stand."""
        model = self._handles.model(request)
        _check_name(request.name)
        control = transfers.mark(read_handles(request.handles), request.name)
        acted = await self._handles.act(request, model, control)
        applied = np.zeros(len(acted.status), np.int64)
        if acted.value:
            applied[acted.status == 0] = acted.value.steps
            if self._keeping.wants(acted.value):
                await model.keeper.kept(acted.value)
        return states_pb2.MarkResponse(status=column(acted), applied=_counts(applied))

    async def rewind(self, request: states_pb2.RewindRequest) -> states_pb2.RewindResponse:
        """Put sessions back."""
        model = self._handles.model(request)
        handles = read_handles(request.handles)
        if request.WhichOneof("to") == "mark":
            _check_name(request.mark)
            control = transfers.rewind_to_mark(handles, request.mark)
        elif request.WhichOneof("to") == "step":
            control = transfers.put_back(
                handles, await self._checkpoints(request, model, handles, request.step)
            )
        else:
            raise InvalidRequest("a mark or a step to go back to was expected; neither came")
        acted = await self._handles.act(request, model, control)
        status, applied = await self._rewound(model, acted)
        return states_pb2.RewindResponse(
            status=status.tobytes() if status.any() else b"", applied=_counts(applied)
        )

    async def get_state(self, request: states_pb2.GetStateRequest) -> states_pb2.GetStateResponse:
        """Return states as arrays."""
        model = self._handles.model(request)
        control = transfers.copy_out(read_handles(request.handles))
        acted = await self._handles.act(request, model, control)
        applied = np.zeros(len(acted.status), np.int64)
        response = states_pb2.GetStateResponse(status=column(acted))
        if acted.value:
            await _come(acted.value)
            applied[acted.status == 0] = acted.value.steps
            for state in model.spec.states:
                values = acted.value.states[state.name]
                response.states.add(
                    name=state.name,
                    dtype=wire.DATA_TYPES[state.dtype.str],
                    shape=values.shape,
                    data=values.tobytes(),
                )
        response.applied = _counts(applied)
        return response

    def _read(self, model: Served, row: int, data: bytes) -> tuple[int, Any]:
        try:
            return self._snapshots.read(model, data)
        except SnapshotMismatch as error:
            raise SnapshotMismatch(f"snapshot {row}: {error}", damaged=error.damaged) from error

    async def _checkpoints(
        self, request: Any, model: Served, handles: NDArray[np.uint64], step: int
    ) -> Sequence[Mark | None]:
        """Return the newest places at or before a step that the store has for the handles."""
        if step == 0:
            return [transfers.BEGINNING] * len(handles)
        acted = await self._handles.act(request, model, transfers.copy_out(handles))
        places: list[Mark | None] = [None] * len(handles)
        if acted.value is None:
            return places
        records = await self._keeping.load(acted.value.ids)
        for row, record in zip(np.flatnonzero(acted.status == 0).tolist(), records, strict=True):
            checkpoint = record and place_to_go_on(record, step)
            if record and checkpoint:
                places[row] = model.keeper.recorder.mark(record.header, checkpoint)
        return places

    async def _rewound(
        self, model: Served, acted: Acted[Rewound]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Save what was put back; return the status and the count of each row."""
        status, applied = acted.status.copy(), np.zeros(len(acted.status), np.int64)
        if acted.value is None:
            return status, applied
        rows = np.flatnonzero(acted.status == 0)
        status[rows[~acted.value.found]] = RowStatus.NOT_FOUND
        gathered = acted.value.gathered
        applied[rows[acted.value.found]] = gathered.steps
        if gathered.ids and self._keeping.wants(gathered):
            await model.keeper.kept(gathered)
        return status, applied


async def _come(gathered: Gathered) -> None:
    """Wait for states that are on their way from a device, and hold nobody up meanwhile."""
    if not gathered.reading.done:
        await asyncio.to_thread(gathered.reading.get)


def _counts(values: NDArray[np.int64]) -> bytes:
    return values.astype(wire.STEP_COUNT_DTYPE).tobytes()


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= wire.MAX_ID_LENGTH or not name.isprintable():
        raise InvalidRequest(
            f"a mark's name has 1 to {wire.MAX_ID_LENGTH} printable characters; {shown(name)} came"
        )
