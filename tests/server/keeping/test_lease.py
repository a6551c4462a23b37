"""A server's lease, on a clock that a test moves."""

from __future__ import annotations

import pytest

from carousel_server.keeping.lease import Lease
from carousel_server.store.interface import Held
from tests.server.store.conftest import Clock
from tests.server.store.some import A, B, create
from tests.support.stores import SharedStore


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock) -> SharedStore:
    return SharedStore(clock)


@pytest.fixture
def lapses() -> list[int]:
    return []


@pytest.fixture
def lease(store, clock, lapses) -> Lease:
    return Lease(store, A, seconds=2, on_lapse=lambda: lapses.append(1), clock=clock)


def test_nobody_takes_over_before_a_lease_has_passed(lease, clock):
    assert not lease.may_take_over
    lease.renew()
    assert lease.is_held
    assert not lease.may_take_over
    for _ in range(3):
        clock.now += 0.66
        lease.renew()
    assert not lease.may_take_over
    clock.now += 0.05
    lease.renew()
    assert lease.may_take_over


def test_a_held_lease_keeps_others_out(lease, store, clock):
    create(store, A, "x")
    lease.renew()
    clock.now += 1.9
    assert isinstance(store.claim(["x"], B)[0], Held)
    clock.now += 0.2
    assert not lease.is_held
    assert not isinstance(store.claim(["x"], B)[0], Held)


def test_a_short_outage_starts_the_waiting_anew_and_is_no_lapse(lease, store, clock, lapses):
    lease.renew()
    clock.now += 5
    lease.renew()  # a lapse: nobody had renewed it
    assert lapses == [1]
    clock.now += 1
    lease.renew()
    clock.now += 1
    lease.renew()
    assert lease.may_take_over
    store.away = True
    clock.now += 0.6
    lease.renew()
    assert not lease.may_take_over
    assert lease.is_held
    store.away = False
    clock.now += 0.6
    lease.renew()
    assert not lease.may_take_over, "others may not have had the time to renew theirs"
    assert (lapses, lease.lapses) == ([1], 1)
    for _ in range(3):
        clock.now += 0.7
        lease.renew()
    assert lease.may_take_over


def test_a_long_outage_is_a_lapse_and_is_told_once(lease, store, clock, lapses):
    lease.renew()
    assert (lapses, lease.lapses) == ([], 0)
    store.away = True
    for _ in range(6):
        clock.now += 0.6
        lease.renew()
    assert not lease.is_held
    assert lapses == []
    store.away = False
    lease.renew()
    assert (lapses, lease.lapses) == ([1], 1)
    assert lease.is_held
    lease.renew()
    assert lapses == [1]


def test_a_server_that_slept_while_it_renewed_has_lapsed(lease, store, clock, lapses):
    lease.renew()
    plain = store.renew

    def slow(owner, seconds):
        clock.now += 10  # stopped, after it had looked at the clock
        plain(owner, seconds)

    store.renew = slow
    lease.renew()
    assert lapses == [1]
    assert not lease.is_held, "when the store began to count is not known"
    store.renew = plain
    lease.renew()
    assert lease.is_held


def test_it_is_given_back(lease, store):
    create(store, A, "x")
    lease.start()
    assert isinstance(store.claim(["x"], B)[0], Held)
    lease.stop()
    assert not isinstance(store.claim(["x"], B)[0], Held)


def test_it_begins_and_ends_where_the_store_is_away(lease, store):
    store.away = True
    lease.start()
    assert not lease.is_held
    lease.stop()
