"""SessionService: a thin shell over drivers and the step gate."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel import wire
from carousel.v1 import sessions_pb2, sessions_pb2_grpc
from carousel_server.catalog import Catalog, Served
from carousel_server.engine import controls
from carousel_server.engine.directory import Directory
from carousel_server.engine.sessions import SessionInfo
from carousel_server.engine.status import RowStatus
from carousel_server.errors import Draining, InvalidRequest, SessionNotFound, shown
from carousel_server.lifecycle import Lifecycle
from carousel_server.rpc.columns import read_handles, read_states
from carousel_server.rpc.steps import StepGate
from carousel_server.rpc.stream import OpenStreams, Requests, StepStream

_MAX_PAGE = 1000

Context = Any  # grpc.aio.ServicerContext: the errors raised here become statuses in an interceptor


class SessionService(sessions_pb2_grpc.SessionServiceServicer):
    """Opens sessions and steps them."""

    def __init__(
        self,
        catalog: Catalog,
        directory: Directory,
        gate: StepGate,
        streams: OpenStreams,
        lifecycle: Lifecycle,
    ) -> None:
        self._catalog = catalog
        self._directory = directory
        self._gate = gate
        self._streams = streams
        self._lifecycle = lifecycle

    async def Open(
        self, request: sessions_pb2.OpenRequest, context: Context
    ) -> sessions_pb2.OpenResponse:
        """Open sessions, all or none."""
        self._refuse_when_draining()
        model = self._catalog.find_open(request.model, request.version)
        ids = _new_ids(request, self._directory.capacity)
        given = {tensor.name: tensor for tensor in request.initial_states}
        if len(given) != len(request.initial_states):
            raise InvalidRequest("an initial state is given twice")
        states = read_states(given, model.spec, len(ids))
        opened = await model.driver.control(controls.Open(ids, states))
        return sessions_pb2.OpenResponse(
            server_id=self._lifecycle.server_id,
            model=model.name,
            version=model.version,
            ids=ids,
            handles=opened.handles.tobytes(),
        )

    async def Attach(
        self, request: sessions_pb2.AttachRequest, context: Context
    ) -> sessions_pb2.AttachResponse:
        """Take sessions up by their ids, all or none."""
        self._refuse_when_draining()
        ids = list(request.ids)
        if not ids:
            raise InvalidRequest("the ids of one or more sessions were expected; none came")
        _check_ids(ids)
        model = self._model_of(request.model, ids)
        attached = await model.driver.control(controls.Attach(ids))
        count = len(ids)
        return sessions_pb2.AttachResponse(
            server_id=self._lifecycle.server_id,
            model=model.name,
            version=model.version,
            handles=attached.handles.tobytes(),
            applied=attached.applied.astype(wire.STEP_COUNT_DTYPE).tobytes(),
            durable=np.zeros(count, wire.STEP_COUNT_DTYPE).tobytes(),
        )

    # It writes to the context, because answers come out of order and in parts.
    async def Stream(  # type: ignore[override]
        self, request_iterator: Requests, context: Context
    ) -> None:
        """Step sessions for as long as the client likes."""
        await self._streams.run(
            StepStream(self._gate, request_iterator, context.write, self._streams.number())
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

        self._gate.submit(request, send, stream=self._streams.number(), whole=True)
        return await future

    async def Reset(
        self, request: sessions_pb2.ResetRequest, context: Context
    ) -> sessions_pb2.ResetResponse:
        """Put sessions back to step 0."""
        return sessions_pb2.ResetResponse(status=await self._by_handle(request, controls.reset))

    async def Close(
        self, request: sessions_pb2.CloseRequest, context: Context
    ) -> sessions_pb2.CloseResponse:
        """End sessions."""
        return sessions_pb2.CloseResponse(status=await self._by_handle(request, controls.close))

    async def Get(
        self, request: sessions_pb2.GetSessionRequest, context: Context
    ) -> sessions_pb2.GetSessionResponse:
        """Return one session."""
        _check_ids([request.id])
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

    async def _by_handle(
        self,
        request: sessions_pb2.ResetRequest | sessions_pb2.CloseRequest,
        make: Callable[[NDArray[np.uint64]], controls.ByHandle],
    ) -> bytes:
        """Carry out a call on handles; return its status column, empty where all are OK."""
        find = self._catalog.find_by_handles
        model = find(request.model, request.version, request.handles)
        control = make(read_handles(request.handles))
        self._refuse_when_draining()
        if request.server_id != self._lifecycle.server_id:
            return bytes([RowStatus.STALE_HANDLE]) * len(control.handles)
        status: NDArray[np.uint8] = await model.driver.control(control)
        return status.tobytes() if status.any() else b""

    async def _describe(self, number: int, ids: list[str]) -> list[sessions_pb2.Session]:
        model = self._catalog.by_number(number)
        if model is None:  # it has no sessions any more, and was unloaded
            return []
        infos = await model.driver.control(controls.Describe(ids))
        return [_session(model, info) for info in infos]

    def _model_of(self, name: str, ids: list[str]) -> Served:
        """Return the version of a model that the sessions run; the first one says which."""
        versions = self._catalog.versions(name)
        if len(versions) < 2:
            return self._catalog.find(name)
        number, _ = self._directory.find(ids[0])
        return next((model for model in versions if model.number == number), versions[0])

    def _refuse_when_draining(self) -> None:
        if self._lifecycle.draining:
            raise Draining


def _new_ids(request: sessions_pb2.OpenRequest, most: int) -> list[str]:
    ids = list(request.ids)
    if not ids:
        if not 1 <= request.count <= most:
            raise InvalidRequest(
                f"ids, or a count from 1 to {most}, were expected; {request.count} came"
            )
        # 128 random bits, as in a UUID: nobody guesses an id, and no two are the same.
        return [secrets.token_hex(16) for _ in range(request.count)]
    if request.count not in (0, len(ids)):
        raise InvalidRequest(f"{len(ids)} ids came, and a count of {request.count}")
    _check_ids(ids)
    return ids


def _check_ids(ids: list[str]) -> None:
    if len(set(ids)) != len(ids):
        ((again, _),) = Counter(ids).most_common(1)
        raise InvalidRequest(f"the id {shown(again)} came twice")
    for name in ids:
        if not 1 <= len(name) <= wire.MAX_ID_LENGTH or not name.isprintable():
            raise InvalidRequest(
                f"an id has 1 to {wire.MAX_ID_LENGTH} printable characters; {shown(name)} came"
            )


def _session(model: Served, info: SessionInfo) -> sessions_pb2.Session:
    session = sessions_pb2.Session(
        id=info.id,
        model=model.name,
        version=model.version,
        applied=info.applied,
        place=sessions_pb2.SESSION_PLACE_PARKED if info.parked else sessions_pb2.SESSION_PLACE_LIVE,
    )
    session.open_time.FromNanoseconds(int(info.opened * 1e9))
    session.idle.FromNanoseconds(int(info.idle * 1e9))
    return session
