"""Sessions that are idle for too long end, and only those."""

from __future__ import annotations

import math

import numpy as np
import pytest

from carousel_server.engine import controls
from carousel_server.engine.directory import Directory
from carousel_server.engine.status import RowStatus
from carousel_server.errors import SessionExpired, SessionNotFound
from tests.support.bench import Bench, chunk, handles
from tests.support.recurrence import RecurrenceRunner, solo


def test_idle_sessions_expire_and_their_rows_say_so():
    bench = Bench()
    idle, busy = bench.open("idle", "busy")
    bench.clock.now += 60
    bench.send({busy: chunk(1)})
    bench.drain()
    bench.clock.now += 40
    assert len(bench.now(controls.Expire(100.0)).ids) == 1
    message = bench.send({idle: chunk(1), busy: chunk(1)})
    bench.drain()
    assert message.status == {0: RowStatus.EXPIRED, 1: RowStatus.OK}
    assert message.errors[0] == "the session was idle for too long and is gone"
    assert bench.now(controls.reset(handles(idle))).status.tolist() == [RowStatus.EXPIRED]


def test_attaching_to_an_expired_session_says_when_it_went_and_by_which_rule():
    directory = Directory(10)
    bench = Bench(directory=directory)
    bench.open("a")
    bench.clock.now += 10
    bench.now(controls.Expire(10.0))
    attach = bench.call(controls.Attach(["a"]))
    both = bench.call(controls.Attach(["a", "b"]))
    bench.turn()
    assert isinstance(attach.error, SessionExpired)
    assert "(idle for 10 s): 'a'" in str(attach.error)
    assert isinstance(both.error, SessionNotFound)
    bench.open("a")  # the id is free again, and its past forgotten
    bench.now(controls.close(bench.table.handles(np.array([bench.table.entries()[0]]))))
    with pytest.raises(SessionNotFound) as found:
        directory.find("a")
    assert not isinstance(found.value, SessionExpired)


def test_a_session_with_queued_rows_does_not_expire():
    bench = Bench(max_steps_per_tick=1)
    (a,) = bench.open("a")
    message = bench.send({a: chunk(4)})
    bench.turn()
    bench.clock.now += 1000
    expire = bench.call(controls.Expire(10.0))
    bench.turn()
    assert expire.result.ids == []
    bench.drain()
    np.testing.assert_array_equal(message.outputs[0], solo(chunk(4)))
    assert len(bench.now(controls.Expire(10.0)).ids) == 0, "the last piece was activity"


def test_rows_that_fail_are_activity_too():
    bench = Bench()
    (a,) = bench.open("a")
    bench.clock.now += 60
    bench.send({a: [math.nan, 0]})
    bench.drain()
    bench.clock.now += 60
    assert len(bench.now(controls.Expire(100.0)).ids) == 0
    bench.clock.now += 60
    assert len(bench.now(controls.Expire(100.0)).ids) == 1


@pytest.mark.parametrize("kind", ["attach", "reset"])
def test_control_calls_are_activity(kind):
    bench = Bench()
    (a,) = bench.open("a")
    bench.clock.now += 60
    bench.now(controls.Attach(["a"]) if kind == "attach" else controls.reset(handles(a)))
    bench.clock.now += 60
    assert len(bench.now(controls.Expire(100.0)).ids) == 0


def test_what_an_expired_session_held_is_free_again():
    bench = Bench(RecurrenceRunner(slots=1))
    (old,) = bench.open("a")
    bench.send({old: chunk(3)})
    bench.drain()
    bench.clock.now += 10
    bench.now(controls.Expire(10.0))
    (new,) = bench.open("b")
    message = bench.send([(new, chunk(2)), (old, chunk(2))])
    bench.drain()
    assert message.status == {0: RowStatus.OK, 1: RowStatus.EXPIRED}
    np.testing.assert_array_equal(message.outputs[0], solo(chunk(2)))
