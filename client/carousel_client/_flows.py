"""What takes several calls, or the same one again, written once for both shells.

A flow is a generator: it yields what to do (`Call`, `Sleep`), is sent the call's response or thrown
its CarouselError, and returns its result.
"""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from carousel import wire
from carousel.v1 import models_pb2, server_pb2, states_pb2
from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._arrays import initial_states
from carousel_client._block import Roster
from carousel_client._calls import (
    ATTACH,
    FORK,
    INFO,
    MODEL,
    MODELS,
    OPEN,
    RESTORE,
    SESSIONS,
    Call,
    Flow,
    Method,
    Sleep,
)
from carousel_client._columns import Ints
from carousel_client._controls import Control, Result, check_snapshots
from carousel_client._errors import (
    CarouselError,
    InvalidInput,
    ServerError,
    SessionExists,
    SessionLost,
    SessionNotFound,
    Unavailable,
)
from carousel_client._models import (
    ModelInfo,
    ServerInfo,
    SessionInfo,
    model_info,
    server_info,
    session_info,
)
from carousel_client._options import Options
from carousel_client._packing import tensors

#: How long one attempt to reach one of several servers may take, in seconds.
ATTEMPT_SECONDS = 2.0
#: What attaching found of one session: its handle and applied, or why it can't be had.
Found: TypeAlias = tuple[int, int] | CarouselError


@dataclass
class Flows:
    """The flows of one client; `known` holds the descriptions of (model, version) seen so far."""

    addresses: Sequence[str]
    options: Options
    clock: Callable[[], float] = time.monotonic
    known: dict[tuple[str, str], ModelInfo] = field(default_factory=dict)

    def find_server(self, first: int = 0) -> Flow[tuple[int, ServerInfo]]:
        """Find a server that answers: its address' index, beginning at `first`.

        One that is going down is taken only if there is no other. Raises Unavailable.
        """
        order = [(first + i) % len(self.addresses) for i in range(len(self.addresses))]
        end = self.clock() + self.options.timeout
        for delay in self.options.backoff.delays():
            draining, reason = None, ""
            for address in order:
                limit = min(max(end - self.clock(), 0.001), ATTEMPT_SECONDS)
                call = Call(INFO, server_pb2.InfoRequest(), limit, address=address)
                try:
                    info = server_info((yield call))
                except CarouselError as error:
                    _raise_unless_away(error)
                    reason = str(error)
                    continue
                if not info.draining:
                    return address, info
                draining = draining or (address, info)
            if draining:
                return draining
            if self.clock() + delay >= end:
                break
            yield Sleep(delay)
        raise Unavailable(
            f"no server at {', '.join(self.addresses)} answered within {self.options.timeout:g} s: "
            f"{reason}"
        )

    def safe(self, call: Call) -> Flow[Any]:
        """Make a call that may be made twice; again and again while the server is away."""
        end = self.clock() + call.timeout
        for delay in self.options.backoff.delays():
            try:
                return (yield call)
            except Unavailable:
                if not self.options.reconnect or self.clock() + delay >= end:
                    raise
            yield Sleep(delay)
        return None

    def info(self) -> Flow[ServerInfo]:
        """Ask the server who it is."""
        response = yield from self.safe(self._call(INFO, server_pb2.InfoRequest()))
        return server_info(response)

    def models(self) -> Flow[list[ModelInfo]]:
        """List all models."""
        response = yield from self.safe(self._call(MODELS, models_pb2.ListModelsRequest()))
        return [model_info(model) for model in response.models]

    def model(self, name: str, version: str = "") -> Flow[ModelInfo]:
        """Describe one model. Raises ModelNotFound."""
        request = models_pb2.GetModelRequest(name=name, version=version)
        response = yield from self.safe(self._call(MODEL, request, "model"))
        found = model_info(response.model)
        self.known[found.name, found.version] = found
        return found

    def sessions(self, model: str = "") -> Flow[list[SessionInfo]]:
        """List all open sessions, page by page."""
        found: list[SessionInfo] = []
        token = ""
        while True:
            request = pb.ListSessionsRequest(model=model, page_token=token)
            page = yield from self.safe(self._call(SESSIONS, request, "model"))
            found.extend(session_info(session) for session in page.sessions)
            token = page.next_page_token
            if not token:
                return found

    def open(
        self,
        model: str,
        ids: Sequence[str | None],
        version: str = "",
        states: Mapping[str, Any] | None = None,
    ) -> Flow[Roster]:
        """Open one session for each id; for None, one with an id of our own making."""
        _check_ids(ids)
        made = _made(ids)
        request = pb.OpenRequest(model=model, version=version, ids=made, count=len(made))
        if states:
            described = yield from self.model(model, version)
            request.version = described.version
            request.initial_states.extend(tensors(initial_states(described, states, len(made))))
        response = yield from self._create(self._call(OPEN, request, "model"), chosen=_chosen(ids))
        return (yield from self._roster(response, made))

    def attach(self, model: str, ids: Sequence[str]) -> Flow[Roster]:
        """Attach to all of these sessions. Raises SessionNotFound and takes none if one is gone."""
        _check_ids(ids)
        request = pb.AttachRequest(model=model, ids=ids)
        response = yield from self.safe(self._call(ATTACH, request))
        return (yield from self._roster(response, list(ids)))

    def attach_each(self, model: str, ids: Sequence[str]) -> Flow[list[Found]]:
        """Attach to those of these sessions that are there, and say what was found of each.

        Missing ones are searched by halves, for a server attaches to all of a call's or to none.
        """
        found: list[Found] = [SessionNotFound("not asked for")] * len(ids)
        spans = [(0, len(ids))] if ids else []
        while spans:
            begin, end = spans.pop()
            request = pb.AttachRequest(model=model, ids=ids[begin:end])
            try:
                response = yield from self.safe(self._call(ATTACH, request))
            except SessionNotFound as error:
                middle = (begin + end) // 2
                if middle == begin:
                    error.session = ids[begin]
                    found[begin] = error
                else:
                    spans += [(begin, middle), (middle, end)]
                continue
            handles = np.frombuffer(response.handles, wire.HANDLE_DTYPE)
            applied = np.frombuffer(response.applied, wire.STEP_COUNT_DTYPE)
            found[begin:end] = zip(handles.tolist(), applied.tolist(), strict=True)
        return found

    def reattach(
        self, rosters: Sequence[Roster], server: ServerInfo
    ) -> Flow[list[tuple[Roster, list[Found]]]]:
        """Attach to the sessions of rosters that lost their server: what was found of each row.

        A server that shares no store can't have the sessions of another one: it isn't asked.
        """
        wanted: dict[tuple[str, str], list[tuple[Roster, int]]] = {}
        results = {id(roster): _lost(roster) for roster in rosters}
        for roster in rosters:
            if roster.server_id == server.server_id or server.resumable:
                rows = [row for row in range(len(roster.ids)) if row not in roster.gone]
                key = (roster.model.name, roster.model.version)
                wanted.setdefault(key, []).extend((roster, row) for row in rows)
        for (model, _), places in wanted.items():
            ids = [roster.ids[row] for roster, row in places]
            for (roster, row), found in zip(
                places, (yield from self.attach_each(model, ids)), strict=True
            ):
                if not isinstance(found, CarouselError) or roster.server_id == server.server_id:
                    results[id(roster)][row] = found
        return [(roster, results[id(roster)]) for roster in rosters]

    def control(self, control: Control, roster: Roster, rows: Ints) -> Flow[tuple[Ints, Result]]:
        """Make a call about rows (n,) of a roster, and return those that are done: (m,)."""
        result = Result(roster)
        for row in rows.tolist():
            if row in roster.gone:
                result.fail(row, copy.copy(roster.gone[row]))
        rows = rows[[row not in result.errors for row in rows.tolist()]]
        if not len(rows):
            return rows, result
        request = control.request(roster, roster.server_id, rows)
        response = yield from self.safe(self._call(control.method, request))
        return result.take(control, rows, response), result

    def restore(
        self, model: str, saved: Sequence[bytes], ids: Sequence[str | None], version: str = ""
    ) -> Flow[Roster]:
        """Open one session for each snapshot, under these ids."""
        _check_ids(ids)
        check_snapshots(saved, len(ids))
        made = _made(ids)
        request = states_pb2.RestoreRequest(model=model, version=version, ids=made, snapshots=saved)
        call = self._call(RESTORE, request, "snapshot")
        response = yield from self._create(call, chosen=_chosen(ids))
        return (yield from self._roster(response, made))

    def fork(self, roster: Roster, ids: Sequence[str | None]) -> Flow[Roster]:
        """Open copies of the session that a roster has, under these ids."""
        _check_ids(ids)
        if 0 in roster.gone:
            raise copy.copy(roster.gone[0])
        made = _made(ids)
        request = states_pb2.ForkRequest(
            model=roster.model.name,
            version=roster.model.version,
            server_id=roster.server_id,
            handle=int(roster.handles[0]),
            ids=made,
            count=len(made),
        )
        response = yield from self._create(self._call(FORK, request), chosen=_chosen(ids))
        if isinstance(response, states_pb2.ForkResponse):
            if response.status:
                raise faults.from_row(response.status, "", session=roster.ids[0], applied=None)
            return _taken(roster.model, roster.server_id, made, response)
        return (yield from self._roster(response, made))

    def _create(self, call: Call, *, chosen: bool) -> Flow[Any]:
        """Make a call that opens sessions, again where its answer was lost.

        Ids of our own making are unique: a session that is there already is then ours. With ids
        that were `chosen` by the user it may be another's.
        """
        end = self.clock() + self.options.timeout
        again = False
        for delay in self.options.backoff.delays():
            try:
                return (yield call)
            except SessionExists:
                if chosen or not again:
                    raise
                attach = pb.AttachRequest(model=call.request.model, ids=call.request.ids)
                return (yield from self.safe(self._call(ATTACH, attach)))
            except Unavailable:
                if not self.options.reconnect or self.clock() + delay >= end:
                    raise
                again = True
            yield Sleep(delay)

    def _roster(self, response: Any, ids: list[str]) -> Flow[Roster]:
        """Make a roster of what opening, restoring or attaching answered."""
        key = (response.model, response.version)
        if key not in self.known:
            yield from self.model(*key)
        return _taken(self.known[key], response.server_id, ids, response)

    def _call(self, method: Method, request: Any, subject: faults.Subject = "session") -> Call:
        return Call(method, request, self.options.timeout, subject)


def _taken(model: ModelInfo, server_id: int, ids: list[str], response: Any) -> Roster:
    """Return sessions that a server gave handles to, by what it answered."""
    handles = np.frombuffer(response.handles, wire.HANDLE_DTYPE).astype(np.uint64)
    applied = np.zeros(len(ids), np.uint64)
    if not isinstance(response, pb.OpenResponse):
        applied = np.frombuffer(response.applied, wire.STEP_COUNT_DTYPE).astype(np.uint64)
    if not len(handles) == len(applied) == len(ids):
        raise ServerError(
            f"the server answered {len(handles)} handles for {len(ids)} sessions",
            code="INTERNAL",
        )
    return Roster(model, server_id, ids, handles, applied)


def _made(ids: Sequence[str | None]) -> list[str]:
    """Return these ids, with new ones for those that don't matter."""
    return [uuid.uuid4().hex if name is None else name for name in ids]


def _chosen(ids: Sequence[str | None]) -> bool:
    return any(name is not None for name in ids)


def _lost(roster: Roster) -> list[Found]:
    return [
        roster.gone.get(row)
        or SessionLost(
            f"session {session!r}: its server is gone, and the state with it; open a new one",
            session=session,
            applied=int(roster.applied[row]),
        )
        for row, session in enumerate(roster.ids)
    ]


def _check_ids(ids: Sequence[str | None]) -> None:
    if not ids:
        raise InvalidInput("expected at least one session, but got none")
    for name in ids:
        if name is not None and not 1 <= len(name) <= wire.MAX_ID_LENGTH:
            raise InvalidInput(
                f"a session's id has 1 to {wire.MAX_ID_LENGTH} characters, but {name[:20]!r} has "
                f"{len(name)}"
            )
    given = [name for name in ids if name is not None]
    if len(set(given)) != len(given):
        raise InvalidInput("the sessions' ids must differ from each other")


def _raise_unless_away(error: CarouselError) -> None:
    """Let an error pass that says no more than that the server doesn't answer (yet)."""
    if not isinstance(error, Unavailable | TimeoutError):
        raise error
