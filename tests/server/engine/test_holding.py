"""Strict durability: no answer leaves before the store has what it tells of."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.engine import controls
from carousel_server.engine.checkpoints import SavePolicy
from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, chunk, handles
from tests.support.driven import ALWAYS_INLINE, driven
from tests.support.gathering import ByHand
from tests.support.recurrence import SPOIL, solo

OK, MOVED = RowStatus.OK, RowStatus.MOVED


def strict(**more) -> tuple[Bench, ByHand]:
    keeper = ByHand()
    bench = Bench(keeper=keeper, saves=SavePolicy(strict=True, counted_only=False), **more)
    return bench, keeper


def run(bench: Bench) -> None:
    while not bench.engine.idle:
        bench.turn()


@pytest.mark.parametrize("steps", [1, 5])
def test_an_answer_waits_for_the_store(steps):
    bench, keeper = strict()
    (a,) = bench.open("a")
    message = bench.send({a: chunk(steps)})
    run(bench)
    assert not message.status
    assert not bench.engine.settled
    assert keeper.steps == [{"a": steps}]
    keeper.answer(bench)
    np.testing.assert_array_equal(message.outputs[0], solo(chunk(steps)))
    assert (message.done, message.applied[0], message.durable[0]) == (True, steps, steps)
    assert bench.engine.settled


def test_what_is_saved_is_what_the_answer_tells_of_even_if_ticks_went_on():
    bench, keeper = strict()
    (a,) = bench.open("a")
    first = bench.send({a: chunk(2)})
    run(bench)
    second = bench.send({a: chunk(3)})
    run(bench)
    assert keeper.steps == [{"a": 2}, {"a": 5}]
    keeper.answer(bench)
    assert first.done
    assert not second.status
    keeper.answer(bench)
    assert second.applied[0] == second.durable[0] == 5


def test_a_long_chunk_is_saved_by_pieces_and_answered_at_the_end():
    bench, keeper = strict(max_steps_per_tick=2)
    (a,) = bench.open("a")
    message = bench.send({a: chunk(5)})
    run(bench)
    assert keeper.steps == [{"a": 2}, {"a": 4}, {"a": 5}]
    keeper.answer(bench)
    keeper.answer(bench)
    assert not message.status
    keeper.answer(bench)
    np.testing.assert_array_equal(message.outputs[0], solo(chunk(5)))


def test_parts_of_an_answer_keep_their_order():
    """`Message` minds that nothing comes behind the last part."""
    bench, keeper = strict(max_steps_per_tick=2)
    a, b, c = bench.open("a", "b", "c")
    message = bench.send({a: chunk(2), b: chunk(6), c: [[np.nan, 0]]})
    run(bench)
    assert not message.status
    keeper.answer(bench)
    assert set(message.status) == {0, 2}
    assert not message.done
    keeper.answer(bench)
    keeper.answer(bench)
    assert message.done
    assert message.parts == 2
    assert [message.status[row] for row in range(3)] == [OK, OK, RowStatus.INVALID]


def test_a_refusal_does_not_overtake_the_answers_before_it():
    bench, keeper = strict()
    (a,) = bench.open("a")
    first = bench.send({a: chunk(2)})
    run(bench)
    early = bench.send({a: chunk(1)}, first_step=[7])
    run(bench)
    assert not early.status
    keeper.answer(bench)
    assert first.done
    assert early.status[0] is RowStatus.OUT_OF_ORDER
    assert (early.applied[0], early.durable[0]) == (2, 2)


def test_a_refusal_with_nothing_before_it_leaves_at_once():
    bench, _ = strict()
    (a,) = bench.open("a")
    message = bench.send({a: chunk(1)}, first_step=[7])
    run(bench)
    assert message.status[0] is RowStatus.OUT_OF_ORDER
    assert bench.engine.settled


def test_a_row_that_fails_half_way_waits_for_what_it_did():
    bench, keeper = strict(max_steps_per_tick=2)
    (a,) = bench.open("a")
    xs = chunk(5)
    xs[4, 0] = SPOIL
    message = bench.send({a: xs})
    run(bench)
    while keeper.waiting:
        assert not message.status
        keeper.answer(bench)
    assert message.status[0] is RowStatus.NUMERIC_FAULT
    assert (message.lengths[0], message.applied[0], message.durable[0]) == (4, 4, 4)
    np.testing.assert_array_equal(message.outputs[0], solo(xs)[:4])


def test_rows_of_sessions_that_others_have_are_moved_and_their_neighbours_are_not():
    bench, keeper = strict()
    a, b, c = bench.open("a", "b", "c")
    xs = {a: chunk(3, 1), b: chunk(2, 2), c: chunk(4, 3)}
    together = bench.send(xs)
    alone = [bench.send({handle: chunk(1)}) for handle in (a, b, c)]
    run(bench)
    keeper.answer(bench, [True, False, True])
    assert [together.status[row] for row in range(3)] == [OK, MOVED, OK]
    assert [together.lengths[row] for row in range(3)] == [3, 0, 4]
    assert [together.applied[row] for row in range(3)] == [3, 0, 4]
    np.testing.assert_array_equal(together.outputs[0], solo(xs[a]))
    np.testing.assert_array_equal(together.outputs[2], solo(xs[c]))
    assert "attach" in together.errors[1]
    while keeper.waiting:
        gathered = keeper.waiting[0][0]
        keeper.answer(bench, [name != "b" for name in gathered.ids])
    assert [message.status[0] for message in alone] == [OK, MOVED, OK]


def test_a_message_of_one_row_whose_session_another_has():
    bench, keeper = strict()
    (a,) = bench.open("a")
    message = bench.send({a: chunk(3)})
    run(bench)
    keeper.answer(bench, [False])
    assert message.done
    assert (message.status[0], message.applied[0], message.lengths[0]) == (MOVED, 0, 0)
    assert len(message.outputs[0]) == 0
    late = bench.send({a: chunk(1)})
    run(bench)
    assert late.status[0] is MOVED


def test_a_chunk_that_was_under_way_tells_of_none_of_its_steps():
    bench, keeper = strict(max_steps_per_tick=2)
    a, b = bench.open("a", "b")
    message = bench.send({a: chunk(20), b: chunk(4)})
    bench.turn()
    keeper.answer(bench, [False, True])
    while not bench.engine.idle or keeper.waiting:
        bench.turn()
        if keeper.waiting:
            ids = keeper.waiting[0][0].ids
            keeper.answer(bench, [name != "a" for name in ids])
    assert message.status == {0: MOVED, 1: OK}
    assert (message.lengths[0], message.applied[0]) == (0, 0)
    np.testing.assert_array_equal(message.outputs[1], solo(chunk(4)))


def test_held_rows_count_as_waiting():
    bench, keeper = strict(queue_rows=4)
    opened = bench.open(*"abcd")
    held = bench.send({handle: chunk(1) for handle in opened[:3]})
    run(bench)
    more = bench.send({handle: chunk(1) for handle in opened[:3]})
    assert more.status[0] is RowStatus.BUSY
    keeper.answer(bench)
    assert held.done
    assert bench.engine.queued.rows == 0


def test_control_calls_do_not_wait_for_the_store():
    bench, keeper = strict()
    (a,) = bench.open("a")
    message = bench.send({a: chunk(2)})
    run(bench)
    (again,) = bench.now(controls.Attach(["a"])).handles.tolist()
    keeper.answer(bench)
    assert message.done
    assert message.status[0] is OK
    bench.send({again: chunk(1)})
    run(bench)
    bench.now(controls.close(handles(again)))
    keeper.answer(bench, [False])
    assert bench.engine.settled


async def test_an_engine_is_not_idle_while_an_answer_is_held():
    bench, keeper = strict()
    (a,) = bench.open("a")
    message = bench.send({a: chunk(2)})
    run(bench)
    async with driven(bench, ALWAYS_INLINE) as driver:
        assert not driver.idle
        keeper.answer(bench)
        assert message.done
        assert driver.idle
