"""What takes several calls, or the same one again, written once for both shells.

A flow is a generator: it yields what to do (`_calls`), is sent the outcome or thrown a
CarouselError, and returns its result. It runs with its client to itself from one yield to the next.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from carousel.v1 import models_pb2, server_pb2, states_pb2
from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._block import Barrier, Roster
from carousel_client._calls import ATTACH, FORK, INFO, MODELS, SESSIONS, Enter, Flow, Sleep
from carousel_client._columns import Ints
from carousel_client._controls import Control, Result, note
from carousel_client._errors import SessionExists, StoreAway, Unavailable
from carousel_client._hosts import Host
from carousel_client._kinds import check_name
from carousel_client._models import (
    ModelInfo,
    ServerInfo,
    SessionInfo,
    model_info,
    server_info,
    session_info,
)
from carousel_client._opening import Opening, Terms, check_ids, chosen_ids, made_up


@dataclass
class Flows(Opening):
    """All flows of one client, but the search for servers of open sessions: see `_moving`."""

    def info(self) -> Flow[ServerInfo]:
        """Ask the server who it is."""
        request = server_pb2.InfoRequest()
        response = yield from self.safe(lambda: self._call(INFO, request))
        return server_info(response)

    def models(self) -> Flow[list[ModelInfo]]:
        """List all models."""
        request = models_pb2.ListModelsRequest()
        response = yield from self.safe(lambda: self._call(MODELS, request))
        return [model_info(model) for model in response.models]

    def sessions(self, model: str = "") -> Flow[list[SessionInfo]]:
        """List all open sessions, page by page."""
        check_name(model, "the model's name")
        found: list[SessionInfo] = []
        request = pb.ListSessionsRequest(model=model)
        while True:
            page = yield from self.safe(partial(self._call, SESSIONS, request, "model"))
            found.extend(session_info(session) for session in page.sessions)
            request = pb.ListSessionsRequest(model=model, page_token=page.next_page_token)
            if not page.next_page_token:
                return found

    def refresh(self) -> Flow[None]:
        """Ask how far sessions are durable whose inputs are held, and forget what the store covers.

        Answers say it too, but idle sessions get none.
        """
        wanted: dict[tuple[str, str], dict[str, tuple[Roster, int, int, int]]] = {}
        for roster in list(self.exchange.kept):
            if roster.keep is None or roster.host is None or roster.host.poor:
                continue
            held = roster.held(np.arange(len(roster.ids))).tolist()
            place = wanted.setdefault((roster.host.address, roster.model.name), {})
            for row, name in enumerate(roster.ids):
                if held[row] > roster.keep.floor[row]:
                    place[name] = (roster, row, held[row], roster.keep.epoch)
        for (address, model), sessions in wanted.items():
            request = pb.ListSessionsRequest(model=model)
            while sessions:
                page = yield self._call(SESSIONS, request, "model", address)
                for session in page.sessions:
                    if session.id in sessions:
                        _cover(session.durable, *sessions[session.id])
                request = pb.ListSessionsRequest(model=model, page_token=page.next_page_token)
                if not page.next_page_token:
                    break

    def fork(
        self, roster: Roster, ids: Sequence[str | None], *, resume: bool | None = None
    ) -> Flow[Roster]:
        """Open copies of the session that a roster has, under these ids."""
        check_ids(ids)
        made = made_up(ids)
        request = states_pb2.ForkRequest(
            model=roster.model.name, version=roster.model.version, ids=made, count=len(made)
        )
        again = False

        def ask(host: Host, _: Ints) -> Flow[Any]:
            nonlocal again
            request.server_id, request.handle = host.info.server_id, int(roster.handles[0])
            try:
                again, before = True, again
                return (yield self._call(FORK, request, address=host.address))
            except SessionExists:
                if chosen_ids(ids) or not before:
                    raise
                attach = pb.AttachRequest(model=roster.model.name, ids=made)
                return (yield self._call(ATTACH, attach, address=host.address))

        forked: list[tuple[Host, Any]] = []

        def take(host: Host, rows: Ints, response: Any) -> Ints:
            forked.append((host, response))
            return rows

        yield from self._in_turn(roster, np.arange(1), ask, take, loose=False)
        if not forked:
            raise copy.copy(roster.gone[0])
        host, response = forked[-1]
        if isinstance(response, states_pb2.ForkResponse) and response.status:
            raise faults.from_row(response.status, "", session=roster.ids[0], applied=None)
        return self._taken(roster.model, host, made, response, terms=Terms(resume))

    def control(self, control: Control, roster: Roster, rows: Ints) -> Flow[Result]:
        """Make a call about rows (n,) of a roster, in their turn."""
        result = Result(roster)

        def ask(host: Host, mine: Ints) -> Flow[Any]:
            request = control.request(roster, host.info.server_id, mine)
            return (yield self._call(control.method, request, address=host.address))

        def take(_: Host, mine: Ints, response: Any) -> Ints:
            done = result.take(control, mine, response)
            note(control, roster, done, result)
            return result.answered(mine)

        yield from self._in_turn(roster, rows, ask, take, loose=control.loose)
        for row in rows.tolist():
            if row in roster.gone and row not in result.errors and not result.done[row]:
                result.fail(row, copy.copy(roster.gone[row]))
        return result

    def _in_turn(
        self,
        roster: Roster,
        rows: Ints,
        ask: Callable[[Host, Ints], Flow[Any]],
        take: Callable[[Host, Ints, Any], Ints],
        *,
        loose: bool,
    ) -> Flow[None]:
        """Make a call about rows (n,) at each of their servers, once they are answered and there.

        `take` returns the rows that need no more; others are asked for again, also where a server
        went away meanwhile.
        """
        barrier = Barrier(roster, loose=loose)
        begin, patience = self.clock(), self.options.patience(roster.keep is not None)
        self.exchange.submit(barrier)
        try:
            for delay in self.options.backoff.delays():
                yield Enter(barrier)
                if barrier.failure is not None:
                    raise barrier.failure
                rows = rows[[row not in roster.gone for row in rows.tolist()]]
                for number in np.unique(roster.at[rows]).tolist():
                    host, mine = self.exchange.hosts[number], rows[roster.at[rows] == number]
                    try:
                        response = yield from ask(host, mine)
                    except Unavailable as error:
                        away = isinstance(error, StoreAway)
                        # No other server can do without the store either.
                        limit = self.options.timeout if away else patience
                        if not self.options.reconnect or self.clock() + delay >= begin + limit:
                            roster.owing |= loose and away
                            raise
                        host.doubted = True
                        continue
                    settled = take(host, mine, response)
                    rows = rows[~np.isin(rows, settled)]
                if not len(rows):
                    return
                barrier.entered = False
                self.exchange.advance(roster)
                yield Sleep(delay)
        finally:
            if loose and roster.keep is not None:  # what was put back must be made up for
                roster.unsettle(np.flatnonzero(roster.applied < roster.keep.target))
            self.exchange.release(barrier)


def _cover(durable: int, roster: Roster, row: int, held: int, epoch: int) -> None:
    """Forget what the store covers of a session that held so many answers when that was asked."""
    if roster.keep is not None and roster.keep.epoch == epoch and row not in roster.gone:
        roster.keep.cover(np.array([row]), np.array([min(durable, held)]))
