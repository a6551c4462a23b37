"""Control calls: they wait for the session's rows, and the rows behind them get their due."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.engine import controls
from carousel_server.engine.directory import Directory
from carousel_server.engine.status import RowStatus
from carousel_server.errors import NoRoom, SessionExists, SessionNotFound
from tests.support.bench import Bench, chunk, handles
from tests.support.recurrence import CRASH, RecurrenceRunner, solo

OK, STALE = RowStatus.OK, RowStatus.STALE_HANDLE


def test_attach_waits_for_queued_rows_and_makes_old_handles_stale():
    bench = Bench(max_steps_per_tick=4)
    (old,) = bench.open("a")
    xs = chunk(12)
    before = bench.send({old: xs[:10]})
    bench.turn()  # the chunk is half done
    attach = bench.call(controls.Attach(["a"]))
    behind = bench.send({old: xs[10:]})
    bench.turn()
    assert not attach.done
    bench.drain()
    assert before.status[0] is OK
    assert attach.result.applied.tolist() == [10]
    assert behind.status[0] is STALE
    assert behind.errors[0].endswith("attached elsewhere")
    (new,) = attach.result.handles.tolist()
    late = bench.send({old: xs[10:]})
    rest = bench.send({new: xs[10:]}, first_step=[10])
    bench.drain()
    assert late.status[0] is STALE
    np.testing.assert_array_equal(rest.outputs[0], solo(xs)[10:])


def test_a_row_whose_handle_became_stale_tells_nothing_of_the_session():
    bench = Bench(max_steps_per_tick=1)
    (old,) = bench.open("a")
    bench.send({old: chunk(3)})
    bench.call(controls.Attach(["a"]))
    behind = bench.send({old: chunk(1)})
    bench.drain()
    assert (behind.status[0], behind.applied[0]) == (STALE, 0)


def test_a_row_of_a_closed_session_does_not_fail_those_of_its_entrys_next_one():
    bench = Bench(RecurrenceRunner(slots=2), max_steps_per_tick=1)
    a, b = bench.open("a", "b")
    bench.send({b: chunk(20)})
    close = bench.call(controls.close(handles(a)))
    attach = bench.call(controls.Attach(["a", "b"]))  # has to wait for b
    behind = bench.send({a: chunk(1)})
    bench.turn()
    assert close.done
    (c,) = bench.open("c")
    assert c & 0xFFFFFFFF == a & 0xFFFFFFFF, "the entry is used again"
    xs = chunk(2, seed=5)
    first, second = bench.send({c: xs[:1]}), bench.send({c: xs[1:]})
    bench.drain()
    assert isinstance(attach.error, SessionNotFound)
    assert behind.status[0] is STALE
    np.testing.assert_array_equal(first.outputs[0], solo(xs)[:1])
    np.testing.assert_array_equal(second.outputs[0], solo(xs)[1:])


def test_reset_waits_for_queued_rows_and_is_a_new_session():
    bench = Bench(max_steps_per_tick=2)
    (a,) = bench.open("a")
    xs = chunk(5)
    before = bench.send({a: xs})
    reset = bench.call(controls.reset(handles(a)))
    behind = bench.send({a: xs}, first_step=[0])
    bench.drain()
    assert reset.result.status.tolist() == [0]
    np.testing.assert_array_equal(before.outputs[0], solo(xs))
    np.testing.assert_array_equal(behind.outputs[0], solo(xs))
    assert behind.applied[0] == 5


def test_a_reset_ends_the_failure_in_front_of_it():
    bench = Bench()
    (a,) = bench.open("a")
    xs = chunk(2)
    failing = bench.send({a: [CRASH, 0]})
    between = bench.send({a: xs})
    bench.call(controls.reset(handles(a)))
    behind = bench.send({a: xs})
    bench.drain()
    assert failing.status[0] is RowStatus.MODEL_ERROR
    assert between.status[0] is RowStatus.OUT_OF_ORDER
    np.testing.assert_array_equal(behind.outputs[0], solo(xs))


def test_reset_goes_back_to_the_models_state_and_not_to_the_clients():
    bench = Bench()
    (a,) = bench.open("a", states={"s": np.array([77.0])})
    xs = chunk(2)
    given = bench.send({a: xs})
    bench.call(controls.reset(handles(a)))
    again = bench.send({a: xs})
    bench.drain()
    np.testing.assert_array_equal(given.outputs[0], solo(xs, 77.0))
    np.testing.assert_array_equal(again.outputs[0], solo(xs))


def test_close_waits_for_queued_rows_and_those_behind_it_are_stale():
    bench = Bench(max_steps_per_tick=2)
    a, b = bench.open("a", "b")
    xs = chunk(5)
    before = bench.send({a: xs})
    close = bench.call(controls.close(handles(a)))
    behind = bench.send({a: xs, b: xs})
    bench.drain()
    assert close.result.status.tolist() == [0]
    np.testing.assert_array_equal(before.outputs[0], solo(xs))
    assert behind.status == {0: STALE, 1: OK}
    assert bench.table.open == bench.engine.sessions.residency.slots.used == 1


def test_calls_on_handles_say_what_became_of_each():
    bench = Bench()
    a, b = bench.open("a", "b")
    status = bench.now(controls.close(handles(a, 5, a, b))).status.tolist()
    assert status == [0, RowStatus.NOT_FOUND, RowStatus.DUPLICATE, 0]
    assert bench.now(controls.reset(handles(a, b))).status.tolist() == [STALE, STALE]


def test_an_entry_that_is_used_again_has_neither_state_nor_handles_of_the_old_session():
    bench = Bench(RecurrenceRunner(slots=1))
    xs = chunk(3)
    seen = set()
    for name in "abcd":
        (handle,) = bench.open(name)
        assert handle not in seen
        old = [bench.send({other: xs}) for other in seen]
        message = bench.send({handle: xs})
        bench.drain()
        assert {answer.status[0] for answer in old} <= {STALE}
        np.testing.assert_array_equal(message.outputs[0], solo(xs))
        seen.add(handle)
        bench.now(controls.close(handles(handle)))


def test_open_is_all_or_nothing():
    directory = Directory(4)
    bench = Bench(RecurrenceRunner(slots=3), directory=directory)
    bench.open("a")
    for ids, error in ((["b", "a"], SessionExists), (["b", "b"], SessionExists)):
        assert isinstance(bench_call(bench, controls.Open(ids, {})).error, error)
    directory.claim(["x", "y"], 9, [1, 2])  # of another model
    full = bench_call(bench, controls.Open(["b", "c"], {})).error
    assert isinstance(full, NoRoom)
    assert "3 of at most 4 sessions" in str(full)
    assert full.retry_after_ms > 0
    assert bench.table.open == 1
    assert len(bench.open("b")) == 1


def bench_call(bench: Bench, control):
    reply = bench.call(control)
    bench.turn()
    return reply


def test_attach_names_the_sessions_that_are_not_there_and_changes_nothing():
    directory = Directory(9)
    bench = Bench(directory=directory)
    (a,) = bench.open("a")
    directory.claim(["of another model"], 9, [1])
    error = bench_call(bench, controls.Attach(["a", "b", "of another model"])).error
    assert isinstance(error, SessionNotFound)
    assert error.ids == ["b", "of another model"]
    message = bench.send({a: chunk(1)})
    bench.drain()
    assert message.status[0] is OK


def test_attaches_to_the_same_sessions_in_another_order_come_to_an_end():
    bench = Bench(max_steps_per_tick=1)
    a, b = bench.open("a", "b")
    bench.send({a: chunk(3), b: chunk(5)})
    first = bench.call(controls.Attach(["a", "b"]))
    second = bench.call(controls.Attach(["b", "a"]))
    bench.drain()
    assert set(first.result.handles.tolist()).isdisjoint(second.result.handles.tolist())
    message = bench.send(dict.fromkeys(second.result.handles.tolist(), chunk(1)))
    bench.drain()
    assert message.status == {0: OK, 1: OK}


@pytest.mark.parametrize("value", ["a", "b"])
def test_describe_tells_of_open_sessions(value):
    bench = Bench()
    opened = bench.open("a", "b")
    bench.send({handle: chunk(3 + row) for row, handle in enumerate(opened)})
    bench.drain()
    bench.clock.now += 5.0
    (info,) = bench.now(controls.Describe(["gone", value]))
    assert (info.id, info.applied, info.idle) == (value, 3 + "ab".index(value), 5.0)
