"""Long chunks: cut into pieces, with others in between, and what is left of them on a fault."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, chunk
from tests.support.recurrence import CRASH, SPOIL, RecurrenceRunner, solo


def test_single_steps_of_others_run_between_the_pieces():
    bench = Bench(max_steps_per_tick=4)
    a, b = bench.open("a", "b")
    long, single = chunk(40), chunk(6, seed=1)
    message = bench.send({a: long})
    bench.turn()
    for step, x in enumerate(single):
        own = bench.send({b: x}, first_step=[step])
        bench.turn()
        np.testing.assert_array_equal(own.outputs[0], solo(single)[step : step + 1])
        assert not message.done
    bench.drain()
    np.testing.assert_array_equal(message.outputs[0], solo(long))
    assert max(max(run.lengths) for run in bench.runner.runs) == 4


def test_a_model_without_a_time_axis_takes_one_step_a_piece():
    bench = Bench(RecurrenceRunner(time_axis=False))
    a, b = bench.open("a", "b")
    message = bench.send({a: chunk(5), b: chunk(2, seed=1)})
    bench.drain()
    assert [len(run.slots) for run in bench.runner.runs] == [2, 2, 1, 1, 1]
    np.testing.assert_array_equal(message.outputs[0], solo(chunk(5)))
    np.testing.assert_array_equal(message.outputs[1], solo(chunk(2, seed=1)))


@pytest.mark.parametrize(
    ("value", "status"), [(CRASH, RowStatus.MODEL_ERROR), (SPOIL, RowStatus.NUMERIC_FAULT)]
)
def test_a_fault_in_a_later_piece_leaves_the_finished_ones(value, status):
    bench = Bench(max_steps_per_tick=4)
    a, b = bench.open("a", "b")
    xs = chunk(12)
    wrong = xs.copy()
    wrong[9, 0] = value  # in the third piece
    message = bench.send({a: wrong, b: xs})
    behind = bench.send({a: xs[:1]})
    bench.drain()
    assert message.status == {0: status, 1: RowStatus.OK}
    assert (message.lengths[0], message.applied[0]) == (8, 8)
    np.testing.assert_array_equal(message.outputs[0], solo(xs)[:8])
    np.testing.assert_array_equal(message.outputs[1], solo(xs))
    assert behind.status[0] is RowStatus.OUT_OF_ORDER
    rest = bench.send({a: xs[8:]}, first_step=[8])
    bench.drain()
    np.testing.assert_array_equal(rest.outputs[0], solo(xs)[8:])


def test_a_deadline_that_passes_while_the_row_waits():
    bench = Bench()
    a, b = bench.open("a", "b")
    late = bench.send({a: chunk(1)}, timeout=0.5)
    in_time = bench.send({b: chunk(1)}, timeout=2.0)
    bench.clock.now += 1.0
    bench.drain()
    assert late.status[0] is RowStatus.DEADLINE
    assert late.errors[0] == "the message's time ran out; the session is at step 0"
    assert in_time.status[0] is RowStatus.OK


def test_a_deadline_that_passes_between_pieces():
    bench = Bench(max_steps_per_tick=4)
    a, b = bench.open("a", "b")
    xs = chunk(12)
    message = bench.send({a: xs, b: xs[:4]}, timeout=1.0)
    bench.turn()
    bench.clock.now += 2.0
    bench.drain()
    assert message.status == {0: RowStatus.DEADLINE, 1: RowStatus.OK}
    assert (message.lengths[0], message.applied[0]) == (4, 4)
    np.testing.assert_array_equal(message.outputs[0], solo(xs)[:4])
    rest = bench.send({a: xs[4:]}, first_step=[4])
    bench.drain()
    np.testing.assert_array_equal(rest.outputs[0], solo(xs)[4:])


def test_a_full_tick_leaves_rows_for_the_next():
    bench = Bench(RecurrenceRunner(slots=7), max_rows_per_tick=3)
    opened = bench.open(*"abcdefg")
    message = bench.send({handle: chunk(1, seed=handle % 97) for handle in opened})
    bench.turn()
    assert sorted(message.status) == [0, 1, 2], "the oldest first"
    bench.drain()
    for row, handle in enumerate(opened):
        np.testing.assert_array_equal(message.outputs[row], solo(chunk(1, seed=handle % 97)))


def test_a_client_with_many_long_rows_does_not_hold_up_another():
    bench = Bench(RecurrenceRunner(slots=9), max_rows_per_tick=4, max_steps_per_tick=2)
    *many, one = bench.open(*"abcdefghi")
    long = bench.send(dict.fromkeys(many, chunk(20)), stream=1)
    bench.turn()
    single = bench.send({one: chunk(1)}, stream=2)
    bench.turn()
    np.testing.assert_array_equal(single.outputs[0], solo(chunk(1)))
    bench.drain()
    for row in range(len(many)):
        np.testing.assert_array_equal(long.outputs[row], solo(chunk(20)))
