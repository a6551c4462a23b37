"""Opening sessions, taking them up, and going on from snapshots."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from carousel import wire
from carousel.v1 import models_pb2, states_pb2
from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._arrays import initial_states
from carousel_client._attaching import Attached, attach_each
from carousel_client._block import ADRIFT, Roster
from carousel_client._calls import ATTACH, MODEL, OPEN, RESTORE, Flow, Method, Sleep
from carousel_client._columns import Ints
from carousel_client._controls import check_snapshots
from carousel_client._errors import (
    CarouselError,
    InvalidInput,
    ServerError,
    SessionExists,
    SessionMoved,
    Unavailable,
)
from carousel_client._finding import Finding, raise_unless_away
from carousel_client._hosts import Host
from carousel_client._kinds import check_mapping, check_name
from carousel_client._models import ModelInfo, model_info
from carousel_client._packing import tensors
from carousel_client._replay import Origin, keeper


@dataclass(frozen=True, slots=True)
class Terms:
    """Whether sessions are to outlive their server (None: if it can), and how they came to be."""

    resume: bool | None = None
    origin: Origin | None = None

    def origin_of(self, applied: Ints) -> Origin | None:
        """Return the origin of sessions that stand at `applied` (N,), if they still do so there."""
        if self.origin is None or (applied != self.origin.step).any():
            return None
        return self.origin


@dataclass
class Opening(Finding):
    """Sessions of one client; `known` are the models seen so far, by name and version."""

    known: dict[tuple[str, str], ModelInfo] = field(default_factory=dict)

    def model(self, name: str, version: str = "") -> Flow[ModelInfo]:
        """Describe one model. Raises ModelNotFound."""
        check_model(name, version)
        request = models_pb2.GetModelRequest(name=name, version=version)
        response = yield from self.safe(lambda: self._call(MODEL, request, "model"))
        found = model_info(response.model)
        self.known[found.name, found.version] = found
        return found

    def open(
        self,
        model: str,
        ids: Sequence[str | None],
        version: str = "",
        states: Mapping[str, Any] | None = None,
        *,
        resume: bool | None = None,
    ) -> Flow[Roster]:
        """Open one session for each id; for None, one with an id of our own making."""
        check_model(model, version)
        check_ids(ids)
        check_mapping({} if states is None else states, "initial_states")
        made = made_up(ids)
        request = pb.OpenRequest(model=model, version=version, ids=made, count=len(made))
        begin = {}
        if states:
            described = yield from self.model(model, version)
            request.version = described.version
            begin = {
                name: array.copy()
                for name, array in initial_states(described, states, len(made)).items()
            }
            request.initial_states.extend(tensors(begin))
        response = yield from self._create(OPEN, request, chosen=chosen_ids(ids))
        origin = Origin(np.zeros(len(made), np.int64), begin)
        return (yield from self._roster(response, made, Terms(resume, origin)))

    def attach(self, model: str, ids: Sequence[str], *, resume: bool | None = None) -> Flow[Roster]:
        """Attach to all of these sessions. Raises SessionNotFound and takes none if one is gone.

        Where some are at other servers they are looked for there; those found are then taken.
        """
        check_model(model, "")
        for name in ids:  # here None stands for no session
            check_name(name, "a session's id")
        check_ids(ids)
        self.affinity = self.affinity or ids[0]
        request = pb.AttachRequest(model=model, ids=ids)
        try:
            response = yield from self.safe(lambda: self._call(ATTACH, request))
        except SessionMoved as moved:
            return (yield from self._follow(model, list(ids), moved, Terms(resume)))
        return (yield from self._roster(response, list(ids), Terms(resume)))

    def restore(
        self,
        model: str,
        saved: Sequence[bytes],
        ids: Sequence[str | None],
        version: str = "",
        *,
        resume: bool | None = None,
    ) -> Flow[Roster]:
        """Open one session for each snapshot, under these ids."""
        check_model(model, version)
        check_ids(ids)
        check_snapshots(saved, len(ids))
        made = made_up(ids)
        request = states_pb2.RestoreRequest(model=model, version=version, ids=made, snapshots=saved)
        response = yield from self._create(RESTORE, request, chosen=chosen_ids(ids))
        applied = np.frombuffer(response.applied, wire.STEP_COUNT_DTYPE).astype(np.int64)
        origin = Origin(applied, snapshots=tuple(saved))
        return (yield from self._roster(response, made, Terms(resume, origin)))

    def _follow(
        self, model: str, ids: list[str], moved: SessionMoved, terms: Terms
    ) -> Flow[Roster]:
        """Attach to sessions of which some are at other servers."""
        roster, places = None, [moved.addresses.get(name, "") for name in ids]
        end = self.clock() + self.options.failover_timeout
        for delay in self.options.backoff.delays():
            strays = [row for row in range(len(ids)) if roster is None or roster.at[row] == ADRIFT]
            for address in dict.fromkeys(places[row] for row in strays):
                rows = np.array([row for row in strays if places[row] == address])
                try:
                    host = yield from self.reach(address or self.current, end - self.clock())
                    wanted = [ids[row] for row in rows.tolist()]
                    found = yield from attach_each(host, model, wanted, None, self.options.timeout)
                except CarouselError as error:
                    raise_unless_away(error)
                    for row in rows.tolist():  # ask whoever answers, who knows where they are
                        places[row] = ""
                    continue
                roster = yield from self._found(roster, host, rows, found, ids=ids, places=places)
            if roster is not None and (roster.at != ADRIFT).all():
                break
            if self.clock() + delay >= end:
                raise moved
            yield Sleep(delay)
        assert roster is not None
        if self._resumes(terms, self.exchange.hosts[int(roster.at[0])]):
            roster.keep = keeper(roster.model, self.exchange.ledger, roster.applied)
            self.exchange.kept.add(roster)
        return roster

    def _found(
        self,
        roster: Roster | None,
        host: Host,
        rows: Ints,
        found: Attached,
        *,
        ids: list[str],
        places: list[str],
    ) -> Flow[Roster | None]:
        """Take those of rows (n,) that a server let have, and note where the others are."""
        for row, status in zip(rows.tolist(), found.status.tolist(), strict=True):
            if status == pb.ROW_STATUS_MOVED:
                places[row] = found.moved.get(ids[row], "")
            elif status != pb.ROW_STATUS_OK:
                words = found.words.get(ids[row], "")
                raise faults.from_row(status, words, session=ids[row], applied=None)
        good = found.status == pb.ROW_STATUS_OK
        if not good.any():
            return roster
        if roster is None:
            key = (found.model, found.version)
            if key not in self.known:
                yield from self.model(*key)
            zeros = np.zeros(len(ids), np.int64)
            roster = Roster(
                self.known[key], ids, zeros.astype(np.uint64), zeros, np.full(len(ids), ADRIFT)
            )
        roster.handles[rows[good]] = found.handles[good]
        roster.applied[rows[good]] = found.applied[good]
        roster.place(rows[good], host)
        return roster

    def _create(self, method: Method, request: Any, *, chosen: bool) -> Flow[Any]:
        """Make a call that opens sessions, again where its answer was lost.

        Ids of our own making are unique: a session that is there already is then ours. With ids
        that were `chosen` by the user it may be another's.
        """
        self.affinity = self.affinity or request.ids[0]
        end = self.clock() + self.options.timeout
        again = False
        subject: faults.Subject = "snapshot" if method is RESTORE else "model"
        for delay in self.options.backoff.delays():
            try:
                return (yield self._call(method, request, subject))
            except SessionExists:
                if chosen or not again:
                    raise
                attach = pb.AttachRequest(model=request.model, ids=request.ids)
                return (yield from self.safe(partial(self._call, ATTACH, attach)))
            except Unavailable:
                if not self.options.reconnect or self.clock() + delay >= end:
                    raise
                again = True
            yield Sleep(delay)
            yield from self._look_elsewhere(end)

    def _roster(self, response: Any, ids: list[str], terms: Terms) -> Flow[Roster]:
        """Make a roster of what opening, restoring or attaching answered."""
        key = (response.model, response.version)
        if key not in self.known:
            yield from self.model(*key)
        hosts = self.exchange.hosts.values()
        host = next((h for h in hosts if h.info.server_id == response.server_id), None)
        if host is None:  # it started again since we met; if it has again since, it is gone
            now = yield from self.reach(self.current, self.options.timeout)
            before = replace(now.info, server_id=response.server_id)
            host = self.exchange.meet(self.current, before)
            self.exchange.meet(self.current, now.info)
        return self._taken(self.known[key], host, ids, response, terms=terms)

    def _taken(
        self,
        model: ModelInfo,
        host: Host,
        ids: list[str],
        response: Any,
        *,
        terms: Terms,
    ) -> Roster:
        """Return sessions that a server gave handles to, by what it answered."""
        handles = np.frombuffer(response.handles, wire.HANDLE_DTYPE).astype(np.uint64)
        applied = np.zeros(len(ids), np.int64)
        if not isinstance(response, pb.OpenResponse):
            applied = np.frombuffer(response.applied, wire.STEP_COUNT_DTYPE).astype(np.int64)
        if not len(handles) == len(applied) == len(ids):
            raise ServerError(
                f"the server answered {len(handles)} handles for {len(ids)} sessions",
                code="INTERNAL",
            )
        at = np.full(len(ids), host.number, np.int64)
        roster = Roster(model, ids, handles, applied, at, host)
        if self._resumes(terms, host):
            ledger = self.exchange.ledger
            roster.keep = keeper(model, ledger, applied, terms.origin_of(applied))
            self.exchange.kept.add(roster)
        return roster

    def _resumes(self, terms: Terms, host: Host) -> bool:
        """Whether sessions outlive their server: as asked for, or as the server can."""
        if terms.resume is None:
            return host.info.resumable and self.options.reconnect
        return terms.resume


def made_up(ids: Sequence[str | None]) -> list[str]:
    """Return these ids, with new ones for those that don't matter."""
    return [uuid.uuid4().hex if name is None else name for name in ids]


def chosen_ids(ids: Sequence[str | None]) -> bool:
    return any(name is not None for name in ids)


def check_model(name: str, version: str) -> None:
    check_name(name, "the model's name")
    check_name(version, "the model's version")


def check_ids(ids: Sequence[str | None]) -> None:
    if not ids:
        raise InvalidInput("expected at least one session, but got none")
    for name in ids:
        if name is not None:
            check_name(name, "a session's id")
        if name is not None and not 1 <= len(name) <= wire.MAX_ID_LENGTH:
            raise InvalidInput(
                f"a session's id has 1 to {wire.MAX_ID_LENGTH} characters, but {name[:20]!r} has "
                f"{len(name)}"
            )
    given = [name for name in ids if name is not None]
    if len(set(given)) != len(given):
        raise InvalidInput("the sessions' ids must differ from each other")
