"""The session table: handles, generations and tickets."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from carousel_server.engine.status import RowStatus
from carousel_server.engine.table import SessionTable
from tests.support.bench import handles


def opened(capacity: int = 4, count: int = 2) -> tuple[SessionTable, np.ndarray, list[int]]:
    table = SessionTable(capacity)
    ids = [f"s{number}" for number in range(count)]
    entries = table.add(ids, opened=0.0, now=0.0)
    return table, entries, table.handles(entries).tolist()


def statuses(table: SessionTable, *given: int) -> list[RowStatus]:
    return [RowStatus(code) for code in table.resolve(handles(*given))[1]]


def test_handles_name_their_entries():
    table, entries, (first, second) = opened()
    found, status = table.resolve(handles(second, first))
    assert found.tolist() == entries[::-1].tolist()
    assert not status.any()


def test_numbers_that_were_never_handles_are_not_found():
    table, entries, (first, _) = opened()
    entry = int(entries[0])
    unopened = table.capacity
    # Generation 0, an entry nobody has, one beyond the table, a generation still to come, zero.
    strange = [
        entry,
        unopened,
        (1 << 32) | unopened,
        (1 << 32) | 77,
        first + (1 << 32),
        0,
        2**64 - 1,
    ]
    assert statuses(table, *strange) == [RowStatus.NOT_FOUND] * len(strange)
    assert table.resolve(handles(*strange))[0].tolist() == [0] * len(strange)


def test_a_strange_handle_leaves_its_neighbours_valid():
    table, entries, (first, second) = opened()
    found, status = table.resolve(handles(first, 99, second))
    assert status.tolist() == [0, RowStatus.NOT_FOUND, 0]
    assert found.tolist() == [entries[0], 0, entries[1]]


def test_handles_are_stale_after_an_attach_and_say_why_after_an_end():
    table, entries, (first, second) = opened()
    table.invalidate(entries[:1], RowStatus.STALE_HANDLE)
    assert statuses(table, first) == [RowStatus.STALE_HANDLE]
    table.remove(entries[1:], RowStatus.EXPIRED)
    assert statuses(table, second) == [RowStatus.EXPIRED]


def test_an_entry_that_is_used_again_refuses_all_older_handles():
    table, entries, (first, second) = opened(capacity=2)
    table.remove(entries, RowStatus.EXPIRED)
    again = table.add(["a", "b"], opened=0.0, now=0.0)
    assert set(again.tolist()) == set(entries.tolist())
    assert statuses(table, first, second) == [RowStatus.EXPIRED] * 2
    table.invalidate(again, RowStatus.STALE_HANDLE)
    assert statuses(table, first, second) == [RowStatus.STALE_HANDLE] * 2


def test_tickets_of_one_entry_are_drawn_in_order():
    table, entries, _ = opened()
    one, other = entries.tolist()
    assert table.draw(np.array([one, other])).tolist() == [0, 0]
    assert table.draw(np.array([one, other, one, one])).tolist() == [1, 1, 2, 3]
    assert table.draw(np.array([one])).tolist() == [4]
    assert table.tail[[one, other]].tolist() == [5, 2]


def test_first_places_of_repeated_entries():
    table, _, _ = opened(capacity=9)
    assert table.first_places(np.array([3, 1, 2])) is None
    first = table.first_places(np.array([3, 1, 3, 1, 2, 3]))
    assert first is not None
    assert first.tolist() == [True, True, False, False, True, False]


class TableMachine(RuleBasedStateMachine):
    """Opens, attaches and ends sessions, beside a dictionary that does the same."""

    every_handle = Bundle("every_handle")
    capacity = 5

    def __init__(self) -> None:
        super().__init__()
        self.table = SessionTable(self.capacity)
        self.sessions: dict[int, str] = {}  # handle -> id
        self.ended: set[int] = set()
        self.count = 0

    @rule(target=every_handle, wanted=st.integers(1, 3))
    def open(self, wanted: int):
        count = min(wanted, self.table.room)
        if not count:
            return 0
        ids = [f"s{self.count + number}" for number in range(count)]
        self.count += count
        entries = self.table.add(ids, opened=0.0, now=0.0)
        given = self.table.handles(entries).tolist()
        assert not set(given) & (self.ended | set(self.sessions)), "a handle was given out twice"
        self.sessions |= dict(zip(given, ids, strict=True))
        return given[0]

    @rule(target=every_handle, handle=every_handle)
    def attach(self, handle: int):
        entry = self._entry(handle)
        if not entry:
            return handle
        self.table.invalidate(np.array([entry]), RowStatus.STALE_HANDLE)
        (new,) = self.table.handles(np.array([entry])).tolist()
        self.sessions[new] = self.sessions.pop(handle)
        self.ended.add(handle)
        return new

    @rule(handle=every_handle)
    def close(self, handle: int):
        if entry := self._entry(handle):
            self.table.remove(np.array([entry]), RowStatus.STALE_HANDLE)
            del self.sessions[handle]
            self.ended.add(handle)

    def _entry(self, handle: int) -> int:
        (entry,), (status,) = self.table.resolve(handles(handle))
        assert (status == 0) == (handle in self.sessions)
        assert (entry > 0) == (status == 0)
        return int(entry)

    @invariant()
    def open_sessions_have_entries_of_their_own(self):
        entries = self.table.entries().tolist()
        assert 0 not in entries
        assert len(set(entries)) == len(entries) == len(self.sessions) == self.table.open

    @invariant()
    def only_the_newest_handles_are_valid(self):
        known = [*self.sessions, *self.ended]
        entries, status = self.table.resolve(handles(*known))
        assert (status == 0).tolist() == [handle in self.sessions for handle in known]
        for entry, handle in zip(entries.tolist(), known, strict=True):
            assert self.table.ids[entry] == self.sessions.get(handle)


TestTableMachine = TableMachine.TestCase
TestTableMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
