"""The order of one session's rows: across messages, within one, and behind a failure."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, chunk
from tests.support.recurrence import CRASH, RecurrenceRunner, solo

OK, OUT_OF_ORDER = RowStatus.OK, RowStatus.OUT_OF_ORDER


def test_rows_of_a_session_run_in_the_order_they_came():
    bench = Bench()
    a, b = bench.open("a", "b")
    xs, other = chunk(6), chunk(2, seed=1)
    first = bench.send({a: xs[:1], b: other[:1]})
    bench.turn()
    second = bench.send({b: other[1:], a: xs[1:4]})
    third = bench.send({a: xs[4:]})
    bench.drain()
    expected = solo(xs)
    np.testing.assert_array_equal(first.outputs[0], expected[:1])
    np.testing.assert_array_equal(second.outputs[1], expected[1:4])
    np.testing.assert_array_equal(third.outputs[0], expected[4:])
    np.testing.assert_array_equal(second.outputs[0], solo(other)[1:])
    assert (first.applied[0], second.applied[1], third.applied[0]) == (1, 4, 6)


def test_one_session_in_many_messages_of_one_turn():
    bench = Bench()
    (a,) = bench.open("a")
    xs = chunk(20)
    messages = [bench.send({a: x}, first_step=[step]) for step, x in enumerate(xs)]
    bench.drain()
    answers = np.concatenate([message.outputs[0] for message in messages])
    np.testing.assert_array_equal(answers, solo(xs))
    assert [message.applied[0] for message in messages] == list(range(1, 21))


def test_a_handles_second_row_in_a_message_is_a_duplicate():
    bench = Bench()
    a, b = bench.open("a", "b")
    xs = chunk(3)
    message = bench.send([(a, xs[:2]), (b, chunk(1)), (a, xs[2:]), (a, xs[2:])])
    later = bench.send({a: xs[2:]}, first_step=[2])
    bench.drain()
    duplicate = RowStatus.DUPLICATE
    assert list(map(message.status.get, range(4))) == [OK, OK, duplicate, duplicate]
    assert "join" in message.errors[2]
    assert message.lengths[2] == 0
    np.testing.assert_array_equal(later.outputs[0], solo(xs)[2:])


def test_a_duplicate_says_where_the_session_stands():
    bench = Bench()
    (a,) = bench.open("a")
    bench.send({a: chunk(5)})
    bench.drain()
    message = bench.send([(a, chunk(1)), (a, chunk(1))])
    bench.drain()
    assert message.applied[1] >= 5, "the session stands there, and not at 0"


def test_a_chunk_that_begins_elsewhere_is_refused_and_says_where_the_session_is():
    bench = Bench()
    (a,) = bench.open("a")
    xs = chunk(5)
    bench.send({a: xs[:3]})
    ahead = bench.send({a: xs[4:]}, first_step=[4])
    bench.drain()
    behind = bench.send({a: xs[2:5]}, first_step=[2])
    bench.drain()
    beyond = bench.send({a: xs[:1]}, first_step=[2**64 - 1])
    bench.drain()
    good = bench.send({a: xs[3:]}, first_step=[3])
    bench.drain()
    assert ahead.status[0] is beyond.status[0] is OUT_OF_ORDER
    assert behind.status[0] is RowStatus.ALREADY_APPLIED
    assert behind.errors[0] == "the chunk begins at step 2, the session is at step 3"
    assert ahead.applied[0] == behind.applied[0] == 3
    np.testing.assert_array_equal(good.outputs[0], solo(xs)[3:])


@pytest.mark.parametrize("checked", [False, True])
def test_rows_queued_behind_a_failed_one_fail_too_and_later_ones_run(checked):
    bench = Bench()
    a, b = bench.open("a", "b")
    xs = chunk(4)
    before = bench.send({a: xs[:1]})
    failing = bench.send({a: [CRASH, 0], b: xs[:1]})
    behind = [bench.send({a: x, b: y}) for x, y in zip(xs[1:3], xs[1:3], strict=True)]
    bench.drain()
    assert before.status[0] is OK
    assert failing.status == {0: RowStatus.MODEL_ERROR, 1: OK}
    for message in behind:
        assert message.status == {0: OUT_OF_ORDER, 1: OK}
        assert message.errors[0].startswith("an earlier row of this session failed")
        assert message.applied[0] == 1
    again = bench.send({a: xs[1:]}, first_step=[1] if checked else None)
    bench.drain()
    np.testing.assert_array_equal(again.outputs[0], solo(xs)[1:])


def test_a_model_that_runs_one_row_at_a_time():
    bench = Bench(RecurrenceRunner(time_axis=False, max_batch=1))
    a, b, c = bench.open("a", "b", "c")
    sent = {a: chunk(3), b: chunk(1, seed=1), c: chunk(2, seed=2)}
    message = bench.send(sent)
    bench.drain()
    for row, xs in enumerate(sent.values()):
        np.testing.assert_array_equal(message.outputs[row], solo(xs))


@pytest.mark.parametrize(("time_axis", "ragged"), [(True, True), (True, False), (False, False)])
def test_rows_of_many_lengths_in_every_form_of_model(time_axis, ragged):
    bench = Bench(RecurrenceRunner(time_axis=time_axis, ragged=ragged), max_steps_per_tick=4)
    opened = bench.open("a", "b", "c", "d", "e")
    sent = {handle: chunk(1 + 3 * row, seed=row) for row, handle in enumerate(opened)}
    message = bench.send(sent)
    bench.drain()
    for row, xs in enumerate(sent.values()):
        np.testing.assert_array_equal(message.outputs[row], solo(xs))
