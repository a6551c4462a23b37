"""A small model of servers and clients around a store, for `test_protocol.py`.

A state is the sum of all inputs so far, so that two courses never look the same. What is asserted
here are the promises: see `Client` and `Ledger`. Time is the store's clock; pauses and cuts are
states of servers; a call to the store may be carried out although its answer is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from typing import Any

from carousel_server.store.interface import (
    NOT_COUNTED,
    Birth,
    Checkpoint,
    Header,
    Held,
    Owner,
    Record,
    Saves,
    Store,
    StoreUnavailable,
)

LEASE = 2.0
TICK = 0.5
INITIAL = b""


def header(opened: int) -> Header:
    """Return a header; when it was opened tells a session from an earlier one of its id."""
    return Header("model", "1", "00", "[]", float(opened))


def run(state: bytes, inputs: Sequence[int]) -> list[bytes]:
    """Return the state after each step; it is the step's output too."""
    states = []
    for number in inputs:
        state = blake2b(state + number.to_bytes(8, "little"), digest_size=8).digest()
        states.append(state)
    return states


class Ledger:
    """Who may write, from what the store has carried out."""

    def __init__(self) -> None:
        self.owner: dict[str, tuple[str, int]] = {}
        self.removed: dict[str, int] = {}

    def took(self, name: str, server: str, token: int) -> None:
        """Note a new owner: tokens only grow."""
        assert token > self.owner.get(name, ("", 0))[1]
        assert token > self.removed.get(name, 0)
        self.owner[name] = (server, token)

    def wrote(self, name: str, server: str, token: int) -> None:
        """Note a write that the store took: it can only be the owner's."""
        if name not in self.owner:
            self.took(name, server, token)
        assert self.owner[name] == (server, token)

    def deleted(self, name: str, token: int) -> None:
        """Note a removal."""
        if name in self.owner:
            assert self.owner.pop(name)[1] <= token
        self.removed[name] = max(token, self.removed.get(name, 0))


@dataclass
class World:
    """The store, its clock, and what is wrong with it."""

    store: Store
    clock: Callable[[], float]
    up: bool = True
    ledger: Ledger = field(default_factory=Ledger)
    servers: list[Server] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: count(1))


@dataclass(eq=False)
class Live:
    """A session that a server has, or believes to have."""

    name: str
    token: int
    opened: int
    applied: int = 0
    state: bytes = INITIAL
    durable: int = 0
    delivered: int = NOT_COUNTED
    suspect: bool = False  # the lease ran out since its token was known to be the record's


@dataclass(eq=False)
class Write:
    """What waits for the store: a checkpoint, or a removal."""

    live: Live
    token: int
    delivered: int
    checkpoint: Checkpoint | None = None


class Away(Exception):
    """UNAVAILABLE: the client tries again, elsewhere or later."""


class Moved(Exception):
    """The session is at another server."""


class Server:
    """A server's side of the protocol."""

    def __init__(self, world: World) -> None:
        number = next(world.numbers)
        self.owner = Owner(f"{number:x}", f"host:{number}")
        self.world = world
        self.alive = True
        self.paused = False
        self.cut = False
        self.loses_answer = False
        self.sessions: dict[str, Live] = {}
        self.queue: list[Write] = []
        self.lease_until = float("-inf")  # as this server believes: from before it asked
        self.steady_since: float | None = None  # since then the store has always answered
        self.attempted = float("-inf")

    @property
    def runs(self) -> bool:
        return self.alive and not self.paused

    def ask(self, call: Callable[[Store], Any], note: Callable[[Any], None]) -> Any:
        """Ask the store; `note` what it did, the answer may be lost on the way."""
        if self.cut or not self.world.up:
            self.steady_since = None
            raise StoreUnavailable
        found = call(self.world.store)
        note(found)
        if self.loses_answer:
            self.loses_answer = False
            self.steady_since = None
            raise StoreUnavailable
        return found

    def renew(self) -> None:
        """Renew the lease; sessions may have been taken over if it ran out before."""
        now = self.world.clock()
        if now - self.attempted > LEASE:
            self.steady_since = None  # this server slept, and does not know what it missed
        self.attempted = now
        if now >= self.lease_until:
            for live in self.sessions.values():
                live.suspect = True
        try:
            self.ask(lambda store: store.renew(self.owner, LEASE), lambda _: None)
        except StoreUnavailable:
            return
        self.lease_until = now + LEASE
        if self.steady_since is None:
            self.steady_since = now

    @property
    def may_take_over(self) -> bool:
        now = self.world.clock()
        if now - self.attempted > LEASE or self.steady_since is None:
            return False
        return now - self.steady_since >= LEASE

    def open(self, name: str, opened: int, *, recorded: bool) -> Live:
        """Make a session; `recorded`: not without the store's consent."""
        if name in self.sessions:
            raise Moved  # ALREADY_EXISTS, in truth
        token = 1
        try:
            (token,) = self.ask(
                lambda store: store.create([Birth(name, header(opened))], self.owner),
                lambda found: [
                    self.world.ledger.took(name, self.owner.server, token)
                    for token in found
                    if token
                ],
            )
        except StoreUnavailable:
            if recorded:
                raise Away from None
        if not token:
            raise Moved
        self.sessions[name] = Live(name, token, opened)
        return self.sessions[name]

    def step(self, live: Live, inputs: Sequence[int], delivered: int) -> list[bytes]:
        outputs = run(live.state, inputs)
        live.applied += len(inputs)
        live.state = outputs[-1] if outputs else live.state
        live.delivered = max(live.delivered, delivered)
        return outputs

    def checkpoint(self, live: Live) -> None:
        """Queue a checkpoint."""
        saved = Checkpoint(live.applied, live.state)
        self.queue.append(Write(live, live.token, live.delivered, saved))

    def close(self, live: Live) -> None:
        del self.sessions[live.name]
        self.queue.append(Write(live, live.token, NOT_COUNTED))

    def flush(self, most: int) -> None:
        """Carry out what waits, in order."""
        while self.queue and most > 0:
            some = self.queue[:most]
            kinds = [write.checkpoint is None for write in some]
            if kinds[0]:
                some = some[:1]
            elif True in kinds:
                some = some[: kinds.index(True)]
            try:
                if kinds[0]:
                    self._remove(some[0])
                else:
                    self._save(some)
            except StoreUnavailable:
                return
            del self.queue[: len(some)]
            most -= len(some)

    def _remove(self, write: Write) -> None:
        name = write.live.name
        self.ask(
            lambda store: store.delete([name], [write.token]),
            lambda found: self.world.ledger.deleted(name, write.token) if found[0] else None,
        )

    def _save(self, some: list[Write]) -> None:
        saves = Saves(
            [write.live.name for write in some],
            [header(write.live.opened) for write in some],
            [write.token for write in some],
            [write.delivered for write in some],
            [write.checkpoint for write in some],
            [""] * len(some),
        )

        def note(found: list[bool]) -> None:
            for write, written in zip(some, found, strict=True):
                if written:
                    self.world.ledger.wrote(write.live.name, self.owner.server, write.token)

        found = self.ask(lambda store: store.save(saves, self.owner), note)
        for write, written in zip(some, found, strict=True):
            live = write.live
            if self.sessions.get(live.name) is live and live.token == write.token:
                if written:
                    live.durable = write.checkpoint.step
                else:
                    del self.sessions[live.name]

    def attach(self, name: str, delivered: int) -> Live | None:
        """Give a session to a client that holds so many answers; None where there is none."""
        if any(write.live.name == name and write.checkpoint is None for write in self.queue):
            # Its removal waits: until then the record is that of a session which was closed.
            self.flush(len(self.queue))
            if self.queue:
                raise Away
        live = self.sessions.get(name)
        if live is not None:
            live = self._confirmed(live)
        if live is None or live.applied != delivered:
            return self._claim(name, delivered)
        # A new one stands for the new generation: what still comes for the old one is refused.
        self.sessions[name] = fresh = Live(**vars(live))
        for write in self.queue:
            if write.live is live:
                write.live = fresh
        return fresh

    def _confirmed(self, live: Live) -> Live | None:
        """Return the session, None where another server has it or had it."""
        if not live.suspect and self.world.clock() < self.lease_until:
            return live
        try:
            (record,) = self.ask(lambda store: store.load([live.name]), lambda _: None)
        except StoreUnavailable:
            raise Away from None
        if record is not None and record.token == live.token:
            live.suspect = False
            return live
        return None

    def _claim(self, name: str, delivered: int) -> Live | None:
        if name not in self.sessions and not self.may_take_over:
            raise Away
        try:
            (found,) = self.ask(
                lambda store: store.claim([name], self.owner, [delivered]),
                lambda found: self._note_claim(name, found[0]),
            )
        except StoreUnavailable:
            raise Away from None
        self.sessions.pop(name, None)
        # What waits is of a course that was left. Where there is a record, its token is enough.
        self.queue = [w for w in self.queue if w.live.name != name or w.checkpoint is None]
        if isinstance(found, Held):
            raise Moved(found.owner.server)
        if found is None:
            return None
        newest = found.checkpoints[-1] if found.checkpoints else Checkpoint(0, INITIAL)
        opened = int(found.header.opened)
        live = Live(name, found.token, opened, newest.step, newest.data, newest.step, delivered)
        self.sessions[name] = live
        return live

    def _note_claim(self, name: str, found: Record | Held | None) -> None:
        """Note a take-over; nobody takes anything from a server that does what it should."""
        if isinstance(found, Record):
            holder, _ = self.world.ledger.owner.get(name, ("", 0))
            for other in self.world.servers:
                if other is not self and other.owner.server == holder:
                    assert not other.is_well
            self.world.ledger.took(name, self.owner.server, found.token)

    @property
    def is_well(self) -> bool:
        """Whether it runs, and its last renewal is no longer ago than they are apart."""
        return self.runs and self.world.clock() <= self.lease_until - LEASE + TICK


@dataclass(eq=False)
class Client:
    """A client with one session, which forgets inputs as early as it may."""

    name: str
    inputs: list[int] = field(default_factory=list)  # of the steps answered: the whole truth
    answers: list[bytes] = field(default_factory=list)
    forgotten: int = 0  # inputs of steps below are gone
    opened: int = 0  # 0: it is not
    server: Server | None = None
    live: Live | None = None

    @property
    def delivered(self) -> int:
        return len(self.answers)

    def open(self, server: Server) -> None:
        opened = next(server.world.numbers)
        try:
            live = server.open(self.name, opened, recorded=False)
        except Moved:
            return
        self.opened, self.server, self.live = opened, server, live

    def connected(self) -> bool:
        """Whether the session is where the client believes it to be."""
        if self.server is None or not self.server.runs:
            return False
        if self.server.sessions.get(self.name) is not self.live:
            self.server = None  # MOVED or STALE_HANDLE
            return False
        return True

    def step(self, inputs: list[int], *, answered: bool) -> None:
        """Send a chunk; where its answer is lost, the next one may be another."""
        if not self.connected():
            return
        outputs = self.server.step(self.live, inputs, self.delivered)
        if not answered:
            self.server = None
            return
        self.inputs += inputs
        self.answers += outputs
        self.see(self.live.durable)

    def see(self, durable: int) -> None:
        """Forget what is covered; it must be in the store as long as it may be needed."""
        assert durable <= self.delivered
        if durable:
            (record,) = self.server.world.store.load([self.name])
            assert record is not None
            covered = [c.step for c in record.checkpoints if c.step <= self.delivered]
            assert max(covered, default=0) >= durable
        self.forgotten = max(self.forgotten, durable)

    def attach(self, server: Server) -> None:
        """Go on at another server, or at the same one; replay, and compare."""
        if not (self.opened and server.runs):
            return
        self.server = None
        try:
            live = server.attach(self.name, self.delivered)
            if live is None:
                # The record was never made: no checkpoint was ever acknowledged.
                assert self.forgotten == 0
                live = server.open(self.name, self.opened, recorded=True)
        except (Away, Moved):
            return
        if live.opened != self.opened:
            # It was opened while the store was away, which has another session of this id.
            assert self.forgotten == 0
            server.close(live)
            self._end()
            return
        assert self.forgotten <= live.applied <= self.delivered
        replayed = server.step(live, self.inputs[live.applied :], self.delivered)
        assert replayed == self.answers[self.delivered - len(replayed) :]
        assert live.state == (self.answers[-1] if self.answers else INITIAL)
        self.server, self.live = server, live

    def close(self) -> None:
        if self.connected():
            self.server.close(self.live)
            self._end()

    def _end(self) -> None:
        self.inputs, self.answers, self.forgotten = [], [], 0
        self.opened, self.server, self.live = 0, None, None
