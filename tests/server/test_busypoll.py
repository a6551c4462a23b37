"""A loop that polls before it sleeps: what it waits for comes, and idle time costs nothing."""

import asyncio
import selectors
import socket

import pytest

from carousel_server import busypoll
from carousel_server.busypoll import BusyPollSelector

_LONGEST = 0.001


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that only sleeping and looking move."""
    times = {"now": 0.0, "looks": 0, "slept": []}

    def select(self, timeout=None):
        if timeout is not None and timeout <= 0:
            times["looks"] += 1
            times["now"] += _LONGEST / 4
            return (times.get("ready_at", float("inf")) <= times["now"] and [("key", 1)]) or []
        times["slept"].append(timeout)
        times["now"] += times["sleep"]
        return [("key", 1)]

    monkeypatch.setattr(selectors.DefaultSelector, "select", select)
    monkeypatch.setattr(busypoll, "perf_counter", lambda: times["now"])
    return times


def test_sleeps_at_once_until_a_wait_was_short(clock):
    selector = BusyPollSelector(_LONGEST)
    clock["sleep"] = 10.0
    selector.select(None)
    selector.select(None)
    assert clock["looks"] == 0
    assert clock["slept"] == [None, None]


def test_polls_after_a_short_wait_and_returns_what_it_sees(clock):
    selector = BusyPollSelector(_LONGEST)
    clock["sleep"] = _LONGEST / 2
    selector.select(None)
    clock["ready_at"] = clock["now"] + _LONGEST / 2
    assert selector.select(None) == [("key", 1)]
    assert clock["looks"] == 2
    assert len(clock["slept"]) == 1  # it was there before it had to sleep


def test_sleeps_in_the_end_and_polls_half_as_long_after_each_long_wait(clock):
    selector = BusyPollSelector(_LONGEST)
    clock["sleep"] = _LONGEST / 2
    selector.select(None)
    clock["sleep"] = 1.0
    looks = []
    for _ in range(6):
        before = clock["looks"]
        selector.select(None)
        looks.append(clock["looks"] - before)
    assert looks == [4, 2, 1, 1, 0, 0]
    assert len(clock["slept"]) == 7


def test_does_not_poll_past_a_timer_that_is_due_sooner(clock):
    selector = BusyPollSelector(_LONGEST)
    clock["sleep"] = _LONGEST / 2
    selector.select(None)
    selector.select(_LONGEST / 2)
    assert clock["looks"] == 0
    selector.select(0)
    assert clock["looks"] == 1  # a look that was asked for


def test_leaves_the_core_to_threads_that_are_at_work(clock):
    working: set[object] = set()
    selector = BusyPollSelector(_LONGEST, working)
    clock["sleep"] = _LONGEST / 2
    selector.select(None)
    working.add("an engine")
    selector.select(None)
    assert clock["looks"] == 0
    working.clear()
    selector.select(None)
    assert clock["looks"] > 0


@pytest.mark.parametrize("longest", [0.0, 200e-6])
def test_runs_timers_and_sockets_as_any_loop_does(longest):
    ours, theirs = socket.socketpair()

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        ours.setblocking(False)
        got = b""
        for number in range(20):
            loop.call_later(0.001 * (number % 3), theirs.send, bytes([number]))
            got += await loop.sock_recv(ours, 1)
        return got

    with ours, theirs:
        assert busypoll.run(main(), longest=longest) == bytes(range(20))
