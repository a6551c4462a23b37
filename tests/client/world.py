"""A client's protocol and several servers in one thread: no network, no clock but ours.

Whatever could happen at any moment happens when a test says so: messages and answers that are on
their way, connections that break, servers that die, drain and start again, a search for a server
that stands between two calls.
"""

from __future__ import annotations

import numpy as np
from google.rpc import code_pb2, status_pb2

import carousel_client as carousel
from carousel_client import _calls as calls
from carousel_client import _faults as faults
from carousel_client._arrays import many_sessions, one_session
from carousel_client._block import Block
from carousel_client._link import LinkBase
from carousel_client._models import model_info
from carousel_client._options import Options
from carousel_client._waiting import result
from tests.client.fake import MODELS, Fake, status
from tests.client.store import Store

SUM = model_info(MODELS[2])
AWAY = status(code_pb2.UNAVAILABLE, "connection refused")


class Wire:
    """One stream to one server process: what is on its way there, and back."""

    def __init__(self, server):
        self.server = server
        self.there = []
        self.back = []


class Called:
    """One call of the application: what it sent, and how often it was told that it is answered."""

    def __init__(self, x):
        self.x = x
        self.woken = 0
        self.block = None

    def wake(self):
        self.woken += 1

    def result(self):
        assert self.woken == 1
        return result(self.block, grouped=len(self.block.lengths) > 1)


class World(LinkBase):
    """A client without input or output, and the servers it knows by address."""

    def __init__(self, servers=2, *, shared=True, save_every=0, **options):
        self.store = Store(shared=shared)
        self.now = 0.0
        self.servers = {}
        self.save_every = save_every
        self.log = []
        self.requests = {}
        self.failures = {}  # by method: statuses that calls fail with first
        self.chaos = lambda: None  # what else goes on while a flow runs
        self.lose_answer = None  # (method, "before" or "after"): its server dies then
        for number in range(servers):
            self.boot(f"server{number}")
        quick = {"backoff": carousel.Backoff(initial=0.01, maximum=0.05)}
        super().__init__(list(self.servers), Options(**(quick | options)))
        self.flows.clock = lambda: self.now
        self.flows.resolve = self._no_names
        self.wires = {}
        self.mover = None
        self.command = None
        self.told = []
        self.run(self.flows.find_server())

    def _no_names(self):
        yield from ()

    def boot(self, address):
        """Start a server process at an address."""
        store = self.store if self.store.shared else Store(shared=False)
        server = Fake(store)
        server.up, server.leased, server.advertised = True, True, address
        server.switches.save_every = self.save_every
        self.servers[address] = server
        return server

    def kill(self, address, *, lease=False):
        """End a server process; `lease`: others take it for alive still."""
        server = self.servers[address]
        if server is not None:
            server.up, server.leased = False, lease
            self.servers[address] = None
        for host in list(self.wires):
            if self.wires[host].server is server:
                self.cut(host)
        return server

    def drain(self, address):
        """Tell clients that a server goes down; it releases its sessions with `leave`."""
        server = self.servers[address]
        server.draining = True
        server.switches.messages = [status(code_pb2.UNAVAILABLE, "draining")] * 10_000
        for host, wire in self.wires.items():
            if wire.server is server:
                self.exchange.drain(host)

    def leave(self, address):
        """Let a draining server save and release its sessions, and go."""
        server = self.servers[address]
        for held in list(server.sessions.values()):
            if server.store.records.get(held.id, None) is not None:
                server.detach(held)
        self.kill(address)

    def cut(self, host):
        """Break a connection: what is on its way is lost, either way."""
        wire = self.wires.pop(host, None)
        if wire is not None:
            self._broke(host, carousel.Unavailable("the wire was cut"))

    def open(self, n=1, **options):
        """Open N sessions in one roster."""
        ids = options.pop("ids", None) or [f"s{len(self.store.records) + i}" for i in range(n)]
        return self.run(self.flows.open("sum", ids, **options))

    def submit(self, roster, x, **options):
        many = len(roster.ids) > 1
        chunks = many_sessions(SUM, x, len(roster.ids)) if many else one_session(SUM, x)
        block, call = Block(roster, chunks, **options), Called(x)
        call.block = block
        block.done = call.wake
        self.exchange.submit(block)
        return call

    def run(self, flow):
        """Run a flow to its end, with everything else going on meanwhile."""
        command = next(flow)
        try:
            while True:
                if isinstance(command, calls.Enter):
                    while not (command.barrier.entered or command.barrier.failure):
                        self.chaos()
                        self.settle(one=True)
                    command = next(flow)
                else:
                    self.chaos()
                    command = self.do(flow, command)
        except StopIteration as stop:
            return stop.value
        finally:
            flow.close()

    def do(self, flow, command):
        """Do what a flow asks for, and return what it asks for next."""
        if isinstance(command, calls.Sleep):
            self.now += command.seconds
            return next(flow)
        self.now += 0.001
        answer = self.call(command)
        if isinstance(answer, status_pb2.Status):
            return flow.throw(faults.from_status(answer, subject=command.subject))
        return flow.send(answer)

    def call(self, command):
        """Answer a unary call, or return the status it fails with."""
        server, name = self.servers.get(command.address), command.method.path.rpartition("/")[2]
        self.log.append((name, command.address))
        if server is None:
            return AWAY
        if server.draining and name not in ("Info", "Get"):
            return status(code_pb2.UNAVAILABLE, "draining")
        if self.failures.get(name):
            return self.failures[name].pop(0)
        return self._answer_or_die(command.address, name, server, command.request)

    def _answer_or_die(self, address, name, server, request):
        if self.lose_answer == (name, "before"):
            self.lose_answer = None
            self.kill(address)
            return AWAY
        answer = self._answer(name, server, request)
        if self.lose_answer == (name, "after"):
            self.lose_answer = None
            self.kill(address)
            return AWAY
        return answer

    def _answer(self, name, server, request):
        return {
            "Info": lambda _: server.info(),
            "Get": lambda asked: calls.MODEL.response(model=server.find(asked.name, asked.version)),
            "Open": server.open,
            "Restore": server.restore,
            "Attach": server.attach,
            "Fork": server.fork,
            "Reset": server.answer_reset,
            "Close": server.answer_close,
            "Mark": server.answer_mark,
            "Rewind": server.answer_rewind,
        }[name](request)

    def move(self):
        """Let the search for a server go on by one command; whether it had anything to do."""
        if self.mover is None:
            if not self.exchange.astray:
                return False
            self.mover, self.command = self.moving.run(), None
        try:
            if self.command is None:
                self.command = next(self.mover)
            else:
                self.command = self.do(self.mover, self.command)
        except StopIteration:
            self.mover = self.command = None
        return True

    def send(self):
        """Put what can be sent on its way; whether there was anything."""
        for host in self.exchange.dark():
            server = self.servers.get(host.address)
            if server is None:
                host.online = True
                self._broke(host, carousel.Unavailable("nobody there"))
                continue
            host.online = True
            self.wires[host] = Wire(server)
        sent = self.exchange.messages(self.now)
        for host, message in sent:
            self.wires[host].there.append(message.step)
        for wake in self.exchange.woken():
            wake()
        self.told += self.exchange.events()
        return bool(sent)

    def arrive(self, host):
        """Let a server run the next message on its way to it."""
        wire = self.wires[host]
        if wire.there:
            step = wire.there.pop(0)
            self.requests.setdefault(host.address, []).append(step)
            wire.back += wire.server.run(step)

    def answer(self, host):
        """Let the client have the next answer on its way to it."""
        wire = self.wires[host]
        if wire.back:
            self.exchange.receive(host, wire.back.pop(0), self.now)
            self.send()

    def settle(self, *, one=False):
        """Let everything happen that can, without anything else going wrong."""
        for _ in range(20_000):
            did = self.send()
            for host in list(self.wires):
                if host in self.wires and self.wires[host].there:
                    self.arrive(host)
                    did = True
                if host in self.wires and self.wires[host].back:
                    self.answer(host)
                    did = True
            did = self.move() or did
            if not one:
                self.chaos()
            if one:
                self.now += 0.001
                return
            if not did and self.exchange.wakeup() is not None:
                self.now = max(self.now, self.exchange.wakeup())
                did = True
            if not did:
                return
        raise AssertionError("never comes to an end")


def sums(x):
    return np.cumsum(np.asarray(x, np.float32), axis=0)


def data(steps, seed=0):
    return np.random.default_rng(seed).integers(-9, 9, (steps, 2)).astype(np.float32)
