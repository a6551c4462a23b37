"""Finding a server for sessions that need one, and going on there.

A session needs a server when its connection broke, when its server goes down, or when another one
has it. It is asked for where it was last, or where somebody says that it is, and then anywhere;
again and again, for as long as its client may be away. What its state has forgotten meanwhile is
sent again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._attaching import Attached, attach_each, same_server
from carousel_client._block import Roster
from carousel_client._calls import Flow, Sleep
from carousel_client._columns import Ints
from carousel_client._errors import (
    CarouselError,
    ConnectionLost,
    ResourceExhausted,
    SessionExists,
    SessionMoved,
    StoreAway,
)
from carousel_client._flows import Flows
from carousel_client._hosts import Host
from carousel_client._landing import Landing, loose, lost, open_again, opened_again
from carousel_client._outcomes import lose

#: The longest wait between two looks at servers that have nothing to offer, in seconds.
_LOOK_AGAIN = 0.5
#: How often a session is followed from one server to the next before a pause.
_HOPS = 4

Item = tuple[Roster, Ints]


@dataclass
class _Round:
    """One look at servers: who was reached, and what is to be asked for where ("": anywhere)."""

    reached: dict[str, Host | None] = field(default_factory=dict)
    wanted: dict[str, list[Item]] = field(default_factory=dict)

    def want(self, address: str, roster: Roster, rows: Ints) -> None:
        if len(rows):
            self.wanted.setdefault(address, []).append((roster, rows))


class Moving:
    """The search of one client, made by one task or thread at a time."""

    def __init__(self, flows: Flows) -> None:
        self.flows = flows
        self.exchange = flows.exchange
        self._delays = flows.options.backoff.delays()
        self._heard = -1
        self._reason = ""
        self._retry_after = 0.0
        self._down: set[str] = set()  # where nobody was the last time

    def run(self) -> Flow[None]:
        """Search until every session that somebody waits for is at a server, or given up."""
        if self.exchange.heard == self._heard:  # nothing came of it the last time
            yield Sleep(next(self._delays))
        else:
            self._delays, self._down = self.flows.options.backoff.delays(), set()
        self._heard = self.exchange.heard
        while self.exchange.astray:
            self._expire()
            if not self.exchange.astray:
                break
            yield from self._look()
            self.exchange.calm(self.flows.clock())
            if self.exchange.astray:
                delay = min(next(self._delays), _LOOK_AGAIN)
                yield Sleep(max(delay, min(self._retry_after, _LOOK_AGAIN)))

    def _expire(self) -> None:
        """Note who began to wait, and fail those who waited for too long."""
        now = self.flows.clock()
        for roster in list(self.exchange.astray):
            if roster.away_since is None:
                roster.away_since = now
            limit = self.flows.options.patience(roster.keep is not None)
            if now - roster.away_since > limit:
                rows = self.exchange.strays(roster)
                roster.away_since = None
                self.exchange.quit(roster, rows, self._late(roster, limit))

    def _late(self, roster: Roster, limit: float) -> Callable[[], CarouselError]:
        places = {
            self.exchange.hosts[n].address for n in (*roster.last.values(), *roster.at) if n >= 0
        }
        where = ", ".join(sorted(places)) or ", ".join(self.flows.given)
        return lambda: ConnectionLost(
            f"the connection to {where} broke, and no server took the sessions up within "
            f"{limit:g} s ({self._reason or 'the connection broke again'}); the steps may have "
            "been run: `applied` tells, once a server answers again"
        )

    def _look(self) -> Flow[None]:
        """Look for every stray session once, wherever it may be."""
        yield from self.flows.resolve()
        this, self._retry_after = _Round(), 0.0
        for roster in list(self.exchange.astray):
            self._want(this, roster)
        for _ in range(_HOPS):
            wanted, this.wanted = this.wanted, {}
            for address, items in wanted.items():
                yield from self._ask(this, address, items)
            if not this.wanted:
                break
        self._down = {address for address, host in this.reached.items() if host is None}

    def _want(self, this: _Round, roster: Roster) -> None:
        """Say where a roster's strays are asked for first."""
        places: dict[str, list[int]] = {}
        for row in self.exchange.strays(roster).tolist():
            number = int(roster.at[row])
            host = self.exchange.hosts.get(roster.last.get(row, -1) if number < 0 else number)
            address = roster.hints.pop(row, "")
            leaving = host is not None and host.draining and roster.keep is not None
            if not address and host is not None and not leaving:
                address = host.address
            if roster.keep is not None and address in self._down:
                address = ""  # who is there may know more, and silence takes its time
            places.setdefault(address, []).append(row)
        for address, rows in places.items():
            this.want(address, roster, np.array(rows, np.int64))

    def _ask(self, this: _Round, address: str, items: Sequence[Item]) -> Flow[None]:
        """Ask for sessions at an address, or anywhere."""
        host = yield from self._reach(this, address) if address else self._anyone(this)
        left = []
        for roster, asked in items:
            rows = self.exchange.strays(roster)
            if len(roster.ids) > 1:
                rows = asked[np.isin(asked, rows)]
            if host is None or (host.draining and roster.keep is not None):
                if address:
                    this.want("", roster, rows)
            elif len(rows):
                left.append((roster, self._not_refused(host, roster, rows)))
        if host is None:
            return
        for group in _alike([(roster, rows) for roster, rows in left if len(rows)]):
            yield from self._attach(this, host, group)

    def _not_refused(self, host: Host, roster: Roster, rows: Ints) -> Ints:
        """Return rows without those that this very server gave to somebody else."""
        for row in rows.tolist():
            if row in roster.refused and roster.last.get(row) == host.number:
                lose(roster, row, roster.refused.pop(row))
        self.exchange.advance(roster)
        return rows[[row not in roster.gone for row in rows.tolist()]]

    def _reach(self, this: _Round, address: str) -> Flow[Host | None]:
        """Return who is at an address, or None; asked once a round at most."""
        if address not in this.reached:
            try:
                limit = self.flows.options.timeout
                this.reached[address] = yield from self.flows.reach(address, limit)
            except CarouselError as error:
                if not faults.passing(error):
                    self._fail_all(error)
                self._reason, this.reached[address] = str(error), None
        return this.reached[address]

    def _anyone(self, this: _Round) -> Flow[Host | None]:
        """Return a server that takes sessions; one that goes down only if there is no other."""
        known = [host.address for host in self.exchange.hosts.values() if not host.gone]
        draining = None
        places = dict.fromkeys([self.flows.current, *self.flows.addresses, *known])
        for address in sorted(places, key=self._down.__contains__):
            host = yield from self._reach(this, address)
            if host is not None and not host.draining:
                self.flows.current = address
                return host
            draining = draining or host
        return draining

    def _fail_all(self, error: CarouselError) -> None:
        """Fail everybody for a reason that won't pass."""
        for roster in list(self.exchange.astray):
            rows = self.exchange.strays(roster)
            self.exchange.quit(roster, rows, lambda: copy.copy(error))

    def _attach(self, this: _Round, host: Host, items: Sequence[Item]) -> Flow[None]:
        """Attach to sessions of one model, all of which outlive their server or none."""
        items = [(roster, self._may_have(host, roster, rows)) for roster, rows in items]
        items = [(roster, rows) for roster, rows in items if len(rows)]
        if not items:
            return
        for roster, rows in items:
            roster.unsettle(rows)  # nothing is sent while the call is on its way
        ids = [roster.ids[row] for roster, rows in items for row in rows.tolist()]
        held = None
        if items[0][0].keep is not None and not loose(items[0][0]):
            held = np.concatenate([roster.held(rows) for roster, rows in items])
        name = items[0][0].model.name
        try:
            found = yield from attach_each(host, name, ids, held, self.flows.options.timeout)
        except SessionMoved as moved:
            self._hint(items, moved)
        except CarouselError as error:
            self._not_now(items, error)
        else:
            yield from self._take(this, host, items, found)

    def _may_have(self, host: Host, roster: Roster, rows: Ints) -> Ints:
        """Return those of rows (n,) that a server may have; the others are lost.

        A server that shares no store can't have the sessions of another one. Those that outlive
        their server are asked for all the same: where they are unknown they may be opened again.
        """
        if roster.keep is not None or host.info.resumable:
            return rows
        for row in rows.tolist():
            if roster.last.get(row, int(roster.at[row])) != host.number:
                lose(roster, row, lost(roster, row))
        self.exchange.advance(roster)
        return rows[[row not in roster.gone for row in rows.tolist()]]

    def _hint(self, items: Sequence[Item], moved: SessionMoved) -> None:
        self._reason = str(moved)
        for roster, rows in items:
            for row in rows.tolist():
                if moved.addresses.get(roster.ids[row]):
                    roster.hints[row] = moved.addresses[roster.ids[row]]

    def _not_now(self, items: Sequence[Item], error: CarouselError) -> None:
        """Note why sessions weren't attached to: they stay astray, or fail where it won't pass."""
        self._reason, self._retry_after = str(error), error.retry_after or 0.0
        if isinstance(error, StoreAway):
            self._no_way_back(items, error)
            return
        if faults.passing(error) or isinstance(error, ResourceExhausted):
            return
        for roster, rows in items:
            self.exchange.quit(roster, rows, lambda: copy.copy(error))

    def _no_way_back(self, items: Sequence[Item], error: StoreAway) -> None:
        """Fail at once what comes behind a call that failed for want of the same store.

        Nobody has lost these sessions, and their user knows already. They are asked for again when
        they are stepped again.
        """
        for roster, rows in items:
            if roster.owing:
                self.exchange.quit(roster, rows, lambda: copy.copy(error))

    def _take(self, this: _Round, host: Host, items: Sequence[Item], found: Attached) -> Flow[None]:
        """Take in what a server answered about sessions."""
        begin, missing, landing = 0, [], Landing(self.exchange, self.flows.clock())
        for roster, rows in items:
            part = slice(begin, begin + len(rows))
            begin += len(rows)
            status = found.status[part]
            good = status == pb.ROW_STATUS_OK
            if good.any():
                landing.attached(roster, rows[good], host, found.some(part, good))
            nowhere = []
            for row, word in zip(rows[~good].tolist(), status[~good].tolist(), strict=True):
                if word == pb.ROW_STATUS_MOVED:
                    self._follow(this, host, roster, row, found.moved.get(roster.ids[row], ""))
                elif word == pb.ROW_STATUS_NOT_FOUND and roster.keep is not None:
                    nowhere.append(row)
                else:
                    name, applied = roster.ids[row], int(roster.applied[row])
                    words = found.words.get(name, "")
                    lose(roster, row, faults.from_row(word, words, session=name, applied=applied))
            if nowhere:
                missing.append((roster, np.array(nowhere)))
            self.exchange.advance(roster)
        for roster, rows in missing:
            yield from self._again(host, roster, rows)

    def _follow(self, this: _Round, host: Host, roster: Roster, row: int, address: str) -> None:
        """Go after a session that another server has; or wait, where that one is of no use."""
        self._reason = f"{host.address} says that {address or 'another server'} has it"
        if not address or address == host.address:
            return
        other = this.reached.get(address)
        if address in this.reached and (other is None or other.draining):
            return
        this.want(address, roster, np.array([row]))

    def _again(self, host: Host, roster: Roster, rows: Ints) -> Flow[None]:
        """Open sessions again that no server knows, where all that they took in is held."""
        keep = roster.keep
        assert keep is not None
        for row in rows[~keep.whole[rows]].tolist():
            last = self.exchange.hosts.get(roster.last.get(row, int(roster.at[row])), host)
            if host.info.resumable or last is host or last.gone:
                lose(roster, row, lost(roster, row))  # else it may be where nobody answers now
        self.exchange.advance(roster)
        rows = rows[keep.whole[rows]]
        if not len(rows):
            return
        try:
            response = yield open_again(roster, rows, host, self.flows.options.timeout)
            same_server(host, response.server_id)
        except SessionExists:
            return  # somebody has it after all: it is asked for again
        except CarouselError as error:
            self._not_now([(roster, rows)], error)
            return
        found = opened_again(roster, rows, response.handles)
        Landing(self.exchange, self.flows.clock()).attached(roster, rows, host, found)
        self.exchange.advance(roster)


def _alike(items: Sequence[Item]) -> list[list[Item]]:
    """Return what one call can ask for: sessions of one model that count answers, or don't."""
    groups: dict[tuple[str, str, bool, bool], list[Item]] = {}
    for roster, rows in items:
        model = roster.model
        kind = (model.name, model.version, roster.keep is not None, loose(roster))
        groups.setdefault(kind, []).append((roster, rows))
    return list(groups.values())
