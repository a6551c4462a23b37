"""Sessions that outlive their server, without a network: every answer once, in order."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import carousel_client as carousel
from carousel.v1 import sessions_pb2 as pb
from carousel_client import _controls as controls
from tests.client.world import World, data, sums

OPS = (
    *("step", "send", "arrive", "answer", "move") * 3,
    *("cut", "kill", "boot", "drain", "leave", "lease", "save", "busy"),
)


def step(world, rosters, calls, rng):
    """Let the application call one of its sessions or groups."""
    roster, seed = rng.choice(rosters), rng.randrange(1000)
    x = data(rng.randrange(1, 9), seed)
    if len(roster.ids) > 1:
        x = [data(rng.randrange(4), seed + row) for row in range(len(roster.ids))]
    calls[id(roster)].append(world.submit(roster, x))


def on_a_wire(world, op, rng):
    """Let something happen to one of the connections."""
    if world.wires:
        getattr(world, op)(rng.choice(list(world.wires)))


def at_a_server(world, op, rng):
    """Let something happen to one of the servers, but leave one that takes sessions."""
    up = [a for a, s in world.servers.items() if s is not None and not s.draining]
    leaving = [a for a, s in world.servers.items() if s is not None and s.draining]
    down = [a for a, s in world.servers.items() if s is None]
    if op == "kill" and len(up) > 1:
        world.kill(rng.choice(up), lease=rng.random() < 0.5)
    elif op == "boot" and down:
        world.boot(rng.choice(down))
    elif op == "drain" and len(up) > 1:
        world.drain(rng.choice(up))
    elif op == "leave" and leaving:
        world.leave(rng.choice(leaving))


def in_a_server(world, op, rng):
    """Let a server save some of its sessions, or have no room for any."""
    up = [s for s in world.servers.values() if s is not None and not s.draining]
    server = rng.choice(up)
    for name, held in server.sessions.items():
        if op == "busy":
            server.switches.rows[name] = [(pb.ROW_STATUS_BUSY, 0)]
        elif rng.random() < 0.5:
            server.save(held)


def disturb(world, rosters, ops, rng):
    """Let what the test draws happen; return the application's calls by roster."""
    calls = {id(roster): [] for roster in rosters}
    for op in ops:
        if op == "step":
            step(world, rosters, calls, rng)
        elif op in ("send", "move"):
            getattr(world, op)()
        elif op in ("arrive", "answer", "cut"):
            on_a_wire(world, op, rng)
        elif op in ("save", "busy"):
            in_a_server(world, op, rng)
        elif op == "lease":
            end_leases(world)
        else:
            at_a_server(world, op, rng)
    return calls


def end_leases(world):
    for record in world.store.records.values():
        if record.owner is not None and not record.owner.up:
            record.owner.leased = False


def heal(world):
    """Let no more go wrong."""
    end_leases(world)
    for address, server in list(world.servers.items()):
        if server is None:
            world.boot(address)
        elif server.draining:
            world.leave(address)
            world.boot(address)
    world.settle()


def check(world, rosters, blocks):
    """Each call has the answers of an uninterrupted run, and so has each state."""
    for roster in rosters:
        n = len(roster.ids)
        inputs = [[] for _ in range(n)]
        answers = [[] for _ in range(n)]
        for block in blocks[id(roster)]:
            found = block.result()
            for row in range(n):
                x = block.x if n == 1 else block.x[row]
                inputs[row].append(np.reshape(x, (-1, 2)))
                answers[row].append(np.reshape(found if n == 1 else found[row], (-1, 2)))
        for row, name in enumerate(roster.ids):
            if not inputs[row]:
                continue
            x, y = np.concatenate(inputs[row]), np.concatenate(answers[row])
            assert np.array_equal(y, sums(x)), name
            assert roster.applied[row] == len(x)
            owner = world.store.records[name].owner
            if owner is not None and owner.up and len(x):
                assert np.array_equal(owner.sessions[name].total, x.sum(axis=0))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    ops=st.lists(st.sampled_from(OPS), max_size=120),
    rng=st.randoms(use_true_random=False),
    groups=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    save_every=st.integers(0, 7),
    parts=st.integers(1, 2),
)
def test_whatever_happens_each_answer_comes_once_and_in_order(
    *, ops, rng, groups, save_every, parts
):
    world = World(3, save_every=save_every, failover_timeout=1e6, timeout=1e6)
    for server in world.servers.values():
        server.switches.parts = parts
    rosters = [world.open(n, ids=[f"g{i}-{row}" for row in range(n)]) for i, n in enumerate(groups)]
    blocks = disturb(world, rosters, ops, rng)
    heal(world)
    check(world, rosters, blocks)
    assert not world.exchange.busy
    assert world.exchange._replaying == 0


class Past:
    """What a session's calls should have come to: its inputs so far, and those at its marks."""

    def __init__(self):
        self.inputs = []
        self.marks = {}

    def total(self):
        return np.sum(self.inputs, axis=0, dtype=np.float32) if self.inputs else np.zeros(2)


def apply(world, roster, pasts, op, rng):
    """Let the application make a call and wait for it, and check what comes."""
    rows = np.arange(len(roster.ids))
    if op == "step":
        x = data(len(rows), rng.randrange(1000))
        call = world.submit(roster, x if len(rows) > 1 else x[0])
        while not call.woken:
            world.settle()
        for past, one in zip(pasts, x, strict=True):
            past.inputs.append(one)
        answers = np.reshape(call.result(), (-1, 2))
        assert np.array_equal(answers, [past.total() for past in pasts])
        return
    name = rng.choice("ab")
    control = {
        "reset": controls.RESET,
        "mark": controls.mark(name),
        "rewind": controls.rewind(name),
    }[op]
    result = world.run(world.flows.control(control, roster, rows))
    for row, past in enumerate(pasts):
        if op == "reset":
            past.inputs = []
        elif op == "mark":
            past.marks[name] = list(past.inputs)
        elif name in past.marks:
            past.inputs = list(past.marks[name])
        else:
            assert isinstance(result.errors.pop(row), carousel.MarkNotFound)
    assert not result.errors
    held = roster.held(rows).tolist()
    assert held == [len(past.inputs) for past in pasts]


CHAOS = ("cut", "kill", "boot", "drain", "leave", "lease", "save", "busy")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    ops=st.lists(st.sampled_from(["step"] * 4 + ["reset", "mark", "rewind"]), max_size=30),
    rng=st.randoms(use_true_random=False),
    rows=st.integers(1, 3),
    save_every=st.integers(0, 4),
    often=st.floats(0, 0.3),
)
def test_whatever_happens_calls_come_to_what_they_should(*, ops, rng, rows, save_every, often):
    world = World(3, save_every=save_every, failover_timeout=1e6, timeout=1e6)
    roster = world.open(rows, ids=[f"s{row}" for row in range(rows)])
    pasts = [Past() for _ in range(rows)]

    def chaos():
        if rng.random() < often:
            disturb(world, [roster], [rng.choice(CHAOS)], rng)
        elif rng.random() < 0.2:
            end_leases(world)

    world.chaos = chaos
    for op in ops:
        apply(world, roster, pasts, op, rng)
    world.chaos = lambda: None
    heal(world)
    apply(world, roster, pasts, "step", rng)
