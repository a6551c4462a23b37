"""Leases, tokens and checkpoints under crashes, pauses, cuts and outages, against real stores.

What must hold is asserted in `model.py` wherever it could be broken: only one server's writes are
taken; what clients were told is durable can be gone back to; whoever forgets as the rule allows can
always replay; answers are those of an uninterrupted run; nobody robs a server that is well.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from carousel_server.store.interface import Store
from carousel_server.store.memory import MemoryStore
from tests.server.store.conftest import Clock, redis_world
from tests.server.store.model import INITIAL, LEASE, TICK, Client, Live, Server, World, run

SERVERS, CLIENTS = 3, 2
servers = st.integers(0, SERVERS - 1)
clients = st.integers(0, CLIENTS - 1)
orders = st.permutations(range(SERVERS))
chunks = st.tuples(st.integers(1, 3), st.sampled_from(["nothing", "queued", "written"]))
TROUBLES = [
    *("crash", "pause", "cut", "lost answer", "drain"),
    *("outage", "outage that ends leases"),
]


class Protocol(RuleBasedStateMachine):
    """Three servers, two clients with a session each."""

    def make(self) -> tuple[Store, Clock]:
        clock = Clock(0.0)
        return MemoryStore(ttl_seconds=0, clock=clock), clock

    def let_pass(self, seconds: float) -> None:
        """Let the store's time pass, where it is not the clock's."""

    @initialize()
    def begin(self) -> None:
        store, self.clock = self.make()
        self.world = World(store, self.clock)
        self.world.servers = [Server(self.world) for _ in range(SERVERS)]
        self.clients = [Client(f"session {number}") for number in range(CLIENTS)]
        self.pass_ticks(6)
        for number, client in enumerate(self.clients):
            client.open(self.world.servers[number])

    def pass_ticks(self, ticks: int) -> None:
        for _ in range(ticks):
            self.clock.now += TICK
            self.let_pass(TICK)
            for server in self.world.servers:
                if server.runs:
                    server.renew()

    @rule(ticks=st.integers(1, 6))
    def time_passes(self, ticks):
        self.pass_ticks(ticks)

    @rule(c=clients, order=orders, sent=st.lists(chunks, max_size=5), answered=st.booleans())
    def stream(self, c, order, sent, answered):
        """A client streams, its server writes now and then, and the last answer may be lost."""
        client = self.clients[c]
        self._find(client, order, patience=2)
        for row, (steps, then) in enumerate(sent):
            server, live = client.server, client.live
            inputs = [next(self.world.numbers) for _ in range(steps)]
            client.step(inputs, answered=answered or row < len(sent) - 1)
            if server is not None and server.runs and server.sessions.get(client.name) is live:
                self._write(server, live, then)

    def _write(self, server: Server, live: Live, then: str) -> None:
        if then != "nothing":
            server.checkpoint(live)
        if then == "written":
            server.flush(100)

    @rule(s=servers, c=clients, chunk=chunks)
    def rows_that_were_under_way_are_run(self, s, c, chunk):
        """The client has gone, its stream's last rows have not; they are checkpointed too."""
        server, client = self.world.servers[s], self.clients[c]
        live = server.sessions.get(client.name)
        if server.runs and live is not None and client.server is not server:
            server.step(live, [next(self.world.numbers) for _ in range(chunk[0])], 0)
            self._write(server, live, chunk[1])

    @rule(s=servers, most=st.sampled_from([1, 100]))
    def flush(self, s, most):
        if self.world.servers[s].runs:
            self.world.servers[s].flush(most)

    @rule(c=clients, s=servers)
    def attach(self, c, s):
        self.clients[c].attach(self.world.servers[s])

    @rule(c=clients, order=orders, patience=st.integers(1, 8))
    def fail_over(self, c, order, patience):
        """The connection breaks, and the client tries all servers until one takes the session."""
        self.clients[c].server = None
        self._find(self.clients[c], order, patience)

    def _find(self, client: Client, order: list[int], patience: int) -> None:
        for _ in range(patience):
            for s in order:
                if not client.connected():
                    client.attach(self.world.servers[s])
            if client.connected():
                return
            self.pass_ticks(2)

    @rule(c=clients, s=servers)
    def close_or_open(self, c, s):
        client = self.clients[c]
        if client.opened:
            client.close()
        elif self.world.servers[s].runs:
            client.open(self.world.servers[s])

    @rule(s=servers, what=st.sampled_from(TROUBLES))
    def trouble(self, s, what):
        server = self.world.servers[s]
        if what == "crash":
            server.alive = False
            self.world.servers[s] = Server(self.world)
        elif what == "pause":
            server.paused = not server.paused
        elif what == "cut":
            server.cut = not server.cut
        elif what == "lost answer":
            server.loses_answer = True
        elif what == "drain":
            self._drain(s)
        else:
            self._outage(leases_too=what == "outage that ends leases")

    def _outage(self, *, leases_too: bool) -> None:
        """Let the store go away, for as long as every server notices, or come back."""
        self.world.up = not self.world.up
        if not self.world.up and leases_too:
            for server in self.world.servers:
                self.world.store.retire(server.owner)
        self.pass_ticks(1)

    def _drain(self, s: int) -> None:
        """Write all, release all; then the server ends."""
        server = self.world.servers[s]
        if not server.runs or server.cut or not self.world.up:
            return
        for live in server.sessions.values():
            server.checkpoint(live)
        server.flush(100)
        names = list(server.sessions)
        tokens = [server.sessions[name].token for name in names]
        if not server.queue:
            self.world.store.release(names, tokens)
            self.world.store.retire(server.owner)
        server.alive = False
        self.world.servers[s] = Server(self.world)

    @rule()
    def calm(self):
        """All is well again, and stays so for a while."""
        self.world.up = True
        for server in self.world.servers:
            server.paused = server.cut = server.loses_answer = False
        self.pass_ticks(6)

    @invariant()
    def answers_are_those_of_an_uninterrupted_run(self):
        for client in self.clients:
            assert client.answers == run(INITIAL, client.inputs)


def three_servers() -> Protocol:
    machine = Protocol()
    machine.begin()
    return machine


def test_a_stale_copy_is_not_served():
    """A server that was cut off has, by chance, as many steps as its client holds answers."""
    machine = three_servers()
    (stale, other, _), (client, _) = machine.world.servers, machine.clients
    client.step([1], answered=True)
    stale.checkpoint(client.live)
    stale.flush(100)
    stale.cut = True
    left = client.live
    client.server = None
    machine.pass_ticks(6)
    client.attach(other)
    assert client.server is other
    client.step([2], answered=True)
    other.checkpoint(client.live)
    other.flush(100)
    stale.step(left, [666], 0)  # what was under way
    other.alive = False
    client.attach(stale)
    assert client.server is None
    stale.cut = False
    machine.pass_ticks(6)
    client.attach(stale)
    assert client.server is stale
    assert client.live.state == run(INITIAL, [1, 2])[-1]


def test_nobody_takes_over_at_once_from_a_store_that_lost_its_leases():
    """Who is cut off still believes in its lease, and would serve its copy without asking."""
    machine = three_servers()
    (ours, theirs, _), (client, _) = machine.world.servers, machine.clients
    client.step([1], answered=True)
    ours.checkpoint(client.live)
    ours.flush(100)
    ours.cut = True
    machine.trouble(0, "outage that ends leases")
    machine.trouble(0, "outage")
    assert machine.world.up
    assert machine.clock.now < ours.lease_until
    client.attach(theirs)
    assert client.server is None
    machine.pass_ticks(round(LEASE / TICK))
    assert machine.clock.now >= ours.lease_until
    client.attach(theirs)
    assert client.server is theirs


def test_what_waits_of_a_course_that_was_left_is_not_written():
    """A session without a record yet goes back to its start; no token refuses what waits."""
    machine = three_servers()
    (ours, theirs, _), client = machine.world.servers, Client("another session")
    machine.world.up = False
    client.open(ours)
    client.step([1], answered=True)
    client.step([666], answered=False)
    ours.checkpoint(ours.sessions[client.name])
    machine.world.up = True
    machine.pass_ticks(1)
    client.attach(ours)
    client.step([2], answered=True)
    ours.flush(100)
    ours.alive = False
    machine.pass_ticks(6)
    client.attach(theirs)
    assert client.server is theirs
    assert client.live.state == run(INITIAL, [1, 2])[-1]


def test_the_memory_store():
    run_state_machine_as_test(
        Protocol,
        settings=settings(
            max_examples=200,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_redis(running_redis):
    opened = []

    class InRedis(Protocol):
        def make(self) -> tuple[Store, Clock]:
            self.shared = redis_world(running_redis, opened)
            return self.shared.open(), Clock(0.0)

        def let_pass(self, seconds: float) -> None:
            self.shared.let_pass(seconds)

        def teardown(self) -> None:
            while opened:
                opened.pop().close()

    run_state_machine_as_test(
        InRedis,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
