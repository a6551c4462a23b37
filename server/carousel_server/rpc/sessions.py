"""SessionService: a thin shell over drivers and the step gate."""

from __future__ import annotations

import asyncio
from typing import Any

from carousel import wire
from carousel.v1 import sessions_pb2, sessions_pb2_grpc, states_pb2
from carousel_server.catalog import Catalog, Served
from carousel_server.engine import controls, transfers
from carousel_server.engine.directory import Directory
from carousel_server.engine.sessions import SessionInfo
from carousel_server.errors import InvalidRequest, SessionNotFound
from carousel_server.keeping.keeping import Keeping
from carousel_server.keeping.leaving import leave
from carousel_server.lifecycle import Lifecycle
from carousel_server.rpc.attaching import Attaching
from carousel_server.rpc.columns import read_counts, read_handles, read_states
from carousel_server.rpc.handles import Handles, column
from carousel_server.rpc.ids import check_ids, new_ids
from carousel_server.rpc.opening import Opening
from carousel_server.rpc.snapshots import Snapshots
from carousel_server.rpc.states import StateCalls
from carousel_server.rpc.steps import StepGate
from carousel_server.rpc.stream import OpenStreams, Requests, StepStream
from carousel_server.spans import StepSpans, Tracing

_MAX_PAGE = 1000
_SERVICE = sessions_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name

Context = Any  # grpc.aio.ServicerContext: the errors raised here become statuses in an interceptor


class SessionService(sessions_pb2_grpc.SessionServiceServicer):
    """Opens sessions and steps them."""

    def __init__(
        self,
        catalog: Catalog,
        directory: Directory,
        *,
        gate: StepGate,
        streams: OpenStreams,
        lifecycle: Lifecycle,
        keeping: Keeping,
        snapshots: Snapshots,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self._catalog = catalog
        self._directory = directory
        self._gate = gate
        self._streams = streams
        self._lifecycle = lifecycle
        self._keeping = keeping
        self._handles = Handles(catalog, lifecycle)
        self._opening = Opening(keeping)
        self._attaching = Attaching(catalog, directory, keeping)
        self._states = StateCalls(
            catalog,
            lifecycle,
            handles=self._handles,
            opening=self._opening,
            keeping=keeping,
            snapshots=snapshots,
            most=directory.capacity,
        )

    async def Open(
        self, request: sessions_pb2.OpenRequest, context: Context
    ) -> sessions_pb2.OpenResponse:
        """Open sessions, all or none."""
        self._lifecycle.refuse_when_draining()
        model = self._catalog.find_open(request.model, request.version)
        ids = new_ids(request.ids, request.count, self._directory.capacity)
        given = {tensor.name: tensor for tensor in request.initial_states}
        if len(given) != len(request.initial_states):
            raise InvalidRequest("an initial state is given twice")
        states = read_states(given, model.spec, len(ids))
        opened = await self._opening.open(model, ids, states)
        return sessions_pb2.OpenResponse(
            server_id=self._lifecycle.server_id,
            model=model.name,
            version=self._catalog.current(model).version,
            ids=ids,
            handles=opened.handles.tobytes(),
        )

    async def Attach(
        self, request: sessions_pb2.AttachRequest, context: Context
    ) -> sessions_pb2.AttachResponse:
        """Take sessions up by their ids."""
        self._lifecycle.refuse_when_draining()
        ids = list(request.ids)
        if not ids:
            raise InvalidRequest("the ids of one or more sessions were expected; none came")
        check_ids(ids)
        delivered = read_counts("delivered", request.delivered, len(ids))
        model, taken = await self._attaching.attach(
            request.model, ids, delivered, each=request.each
        )
        return sessions_pb2.AttachResponse(
            server_id=self._lifecycle.server_id,
            model=model.name,
            version=self._catalog.current(model).version,
            handles=taken.handles.tobytes(),
            applied=taken.applied.astype(wire.STEP_COUNT_DTYPE).tobytes(),
            durable=taken.durable.astype(wire.STEP_COUNT_DTYPE).tobytes(),
            status=taken.status.tobytes() if taken.status.any() else b"",
            moved=[
                sessions_pb2.SessionMoved(id=name, address=address) for name, address in taken.moved
            ],
        )

    # It writes to the context, because answers come out of order and in parts.
    async def Stream(  # type: ignore[override]
        self, request_iterator: Requests, context: Context
    ) -> None:
        """Step sessions for as long as the client likes."""
        # Whoever comes back to a server that has ended its stream would keep it from being drained.
        self._lifecycle.refuse_when_draining()
        await self._streams.run(
            StepStream(
                self._gate,
                request_iterator,
                context.write,
                self._streams.number(),
                self._spans("Stream", context),
            )
        )

    async def Step(
        self, request: sessions_pb2.StepRequest, context: Context
    ) -> sessions_pb2.StepResponse:
        """Step sessions once."""
        future: asyncio.Future[sessions_pb2.StepResponse] = (
            asyncio.get_running_loop().create_future()
        )

        def send(response: sessions_pb2.StreamResponse) -> None:
            if not future.cancelled():
                future.set_result(response.step)

        self._gate.submit(
            request,
            send,
            stream=self._streams.number(),
            whole=True,
            spans=self._spans("Step", context),
        )
        return await future

    def _spans(self, method: str, context: Context) -> StepSpans | None:
        """Return what begins the spans of a call's messages; None: nobody wants them."""
        if self._tracing is None:
            return None
        return self._tracing.steps(f"/{_SERVICE}/{method}", context.invocation_metadata() or ())

    async def Reset(
        self, request: sessions_pb2.ResetRequest, context: Context
    ) -> sessions_pb2.ResetResponse:
        """Put sessions back to step 0."""
        model = self._handles.model(request)
        acted = await self._handles.act(
            request, model, controls.reset(read_handles(request.handles))
        )
        if acted.value and self._keeping.wants(acted.value):
            # Before anybody goes on from there, the store must have forgotten what was further on.
            await model.keeper.kept(acted.value)
        return sessions_pb2.ResetResponse(status=column(acted))

    async def Close(
        self, request: sessions_pb2.CloseRequest, context: Context
    ) -> sessions_pb2.CloseResponse:
        """End sessions, for good or here only."""
        model = self._handles.model(request)
        handles = read_handles(request.handles)
        if request.keep:
            acted = await self._handles.act(request, model, transfers.leave(handles))
            if acted.value and self._keeping.shared:
                await leave(self._keeping, model, acted.value)
            return sessions_pb2.CloseResponse(status=column(acted))
        closed = await self._handles.act(request, model, controls.close(handles))
        if closed.value:
            await self._keeping.delete(closed.value)
        return sessions_pb2.CloseResponse(status=column(closed))

    async def Snapshot(
        self, request: states_pb2.SnapshotRequest, context: Context
    ) -> states_pb2.SnapshotResponse:
        """Copy states out."""
        return await self._states.snapshot(request)

    async def Restore(
        self, request: states_pb2.RestoreRequest, context: Context
    ) -> states_pb2.RestoreResponse:
        """Open sessions from snapshots."""
        return await self._states.restore(request)

    async def Fork(
        self, request: states_pb2.ForkRequest, context: Context
    ) -> states_pb2.ForkResponse:
        """Open copies of a session."""
        return await self._states.fork(request)

    async def Mark(
        self, request: states_pb2.MarkRequest, context: Context
    ) -> states_pb2.MarkResponse:
        """Name the places where sessions stand."""
        return await self._states.mark(request)

    async def Rewind(
        self, request: states_pb2.RewindRequest, context: Context
    ) -> states_pb2.RewindResponse:
        """Put sessions back to a mark or a checkpoint."""
        return await self._states.rewind(request)

    async def GetState(
        self, request: states_pb2.GetStateRequest, context: Context
    ) -> states_pb2.GetStateResponse:
        """Return states as arrays."""
        return await self._states.get_state(request)

    async def Get(
        self, request: sessions_pb2.GetSessionRequest, context: Context
    ) -> sessions_pb2.GetSessionResponse:
        """Return one session."""
        check_ids([request.id])
        number, _ = self._directory.find(request.id)
        sessions = await self._describe(number, [request.id])
        if not sessions:
            raise SessionNotFound([request.id])
        return sessions_pb2.GetSessionResponse(session=sessions[0])

    async def List(
        self, request: sessions_pb2.ListSessionsRequest, context: Context
    ) -> sessions_pb2.ListSessionsResponse:
        """Return open sessions, a page at a time."""
        models = self._catalog.versions(request.model) if request.model else self._catalog.all()
        if not models:
            self._catalog.find(request.model)  # says which models there are
        numbers = frozenset(model.number for model in models)
        count = min(request.page_size or _MAX_PAGE, _MAX_PAGE)
        ids, total = self._directory.page(numbers, request.page_token, count)
        sessions = [session for number in numbers for session in await self._describe(number, ids)]
        sessions.sort(key=lambda session: session.id)
        return sessions_pb2.ListSessionsResponse(
            sessions=sessions, next_page_token=ids[-1] if len(ids) == count else "", total=total
        )

    async def _describe(self, number: int, ids: list[str]) -> list[sessions_pb2.Session]:
        model = self._catalog.by_number(number)
        if model is None:  # it has no sessions any more, and was unloaded
            return []
        infos = await model.driver.control(controls.Describe(ids))
        return [_session(model, info) for info in infos]


def _session(model: Served, info: SessionInfo) -> sessions_pb2.Session:
    session = sessions_pb2.Session(
        id=info.id,
        model=model.name,
        version=model.version,
        applied=info.applied,
        durable=info.durable,
        place=sessions_pb2.SESSION_PLACE_PARKED if info.parked else sessions_pb2.SESSION_PLACE_LIVE,
    )
    session.open_time.FromNanoseconds(int(info.opened * 1e9))
    session.idle.FromNanoseconds(int(info.idle * 1e9))
    return session
