"""Which sessions are saved and when, and what becomes of the store's answers."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.engine import controls, transfers
from carousel_server.engine.checkpoints import NOT_COUNTED, SavePolicy
from carousel_server.engine.controls import Open
from carousel_server.engine.sessions import Origin
from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, chunk, handles
from tests.support.gathering import ByHand
from tests.support.recurrence import RecurrenceRunner, solo


def bench_of(
    *, steps: int = 4, seconds: float = 10.0, counted_only: bool = False, **more
) -> tuple[Bench, ByHand]:
    keeper = ByHand()
    policy = SavePolicy(steps=steps, seconds=seconds, counted_only=counted_only)
    return Bench(keeper=keeper, saves=policy, **more), keeper


def step(bench: Bench, handle: int, steps: int, **more):
    message = bench.send({handle: chunk(steps)}, **more)
    bench.drain()
    return message


@pytest.mark.parametrize("rows", [1, 3], ids=["alone", "together"])
def test_a_session_is_due_after_so_many_steps(rows):
    bench, keeper = bench_of(steps=4)
    opened = bench.open(*"abc"[:rows])
    for count in (1, 2):
        bench.send({handle: chunk(count) for handle in opened})
        bench.drain()
    assert keeper.steps == []
    bench.send({handle: chunk(1) for handle in opened})
    bench.drain()
    assert keeper.steps == [dict.fromkeys("abc"[:rows], 4)]
    bench.send({handle: chunk(3) for handle in opened})
    bench.drain()
    assert len(keeper.steps) == 1


def test_the_state_is_that_of_the_step_and_later_steps_do_not_change_it():
    bench, keeper = bench_of(steps=2)
    (a,) = bench.open("a")
    step(bench, a, 2)
    step(bench, a, 1)
    (gathered, _), *_ = keeper.waiting
    assert gathered.states["s"].tolist() == [solo(chunk(2))[-1, 0]]
    assert gathered.nbytes == 8


def test_a_session_is_due_after_a_while_if_it_has_stepped():
    bench, keeper = bench_of(steps=100, seconds=10)
    a, b, _ = bench.open("a", "b", "c")
    step(bench, a, 1)
    bench.clock.now += 6
    step(bench, b, 2)
    assert not bench.now(transfers.SaveLate())
    assert keeper.steps == []
    bench.clock.now += 4
    assert not bench.now(transfers.SaveLate())
    assert keeper.steps == [{"a": 1, "b": 2}]  # both were saved never, and opened then
    bench.clock.now += 9
    step(bench, a, 1)
    bench.now(transfers.SaveLate())
    assert len(keeper.steps) == 1
    bench.clock.now += 1
    bench.now(transfers.SaveLate())
    assert keeper.steps[1:] == [{"a": 2}]


def test_sessions_that_are_due_together_are_read_at_once():
    runner = RecurrenceRunner(slots=8)
    reads = []
    plain = runner.read
    runner.read = lambda slots: reads.append(len(slots)) or plain(slots)
    bench, keeper = bench_of(steps=1, runner=runner)
    opened = bench.open(*"abcdef")
    bench.send({handle: chunk(2) for handle in opened})
    bench.drain()
    assert reads == [6]
    assert keeper.steps == [dict.fromkeys("abcdef", 2)]


def test_late_sessions_are_read_in_parts(monkeypatch):
    monkeypatch.setattr("carousel_server.engine.checkpoints._BYTES_AT_ONCE", 16)
    bench, keeper = bench_of(steps=100, seconds=1)
    opened = bench.open(*"abcde")
    bench.send({handle: chunk(1) for handle in opened})
    bench.drain()
    bench.clock.now += 1
    assert [bench.now(transfers.SaveLate()) for _ in range(4)] == [True, True, False, False]
    assert [len(part) for part in keeper.steps] == [2, 2, 1]


def test_parked_sessions_are_saved_too_and_before_they_are_parked():
    bench, keeper = bench_of(steps=100, seconds=1)
    a, _ = bench.open("a", "b")
    step(bench, a, 3)
    bench.clock.now += 5
    assert bench.now(controls.Park(5)) == 1
    assert keeper.steps == [{"a": 3}]
    bench.now(transfers.SaveLate())
    assert len(keeper.steps) == 1
    keeper.has_room = False
    step(bench, a, 1)
    bench.clock.now += 5
    bench.now(controls.Park(5))
    keeper.has_room = True
    bench.now(transfers.SaveLate())
    assert keeper.steps == [{"a": 3}, {"a": 4}]
    assert keeper.waiting[1][0].states["s"].tolist() == [
        solo(np.concatenate([chunk(3), chunk(1)]))[-1, 0]
    ]


def test_durable_stands_still_where_the_keeper_has_no_room_and_catches_up():
    bench, keeper = bench_of(steps=2)
    (a,) = bench.open("a")
    step(bench, a, 2)
    keeper.answer(bench)
    keeper.has_room = False
    for _ in range(5):
        assert step(bench, a, 2).durable[0] == 2
    assert keeper.steps == []
    keeper.has_room = True
    step(bench, a, 1)
    assert keeper.steps == [{"a": 13}]
    keeper.answer(bench)
    assert step(bench, a, 1).durable[0] == 13


def test_durable_is_told_once_the_store_has_it():
    bench, keeper = bench_of(steps=2)
    (a,) = bench.open("a")
    assert step(bench, a, 2).durable[0] == 0
    assert step(bench, a, 2).durable[0] == 0
    keeper.answer(bench)
    assert step(bench, a, 1).durable[0] == 2
    keeper.answer(bench)
    assert step(bench, a, 1).durable[0] == 4
    assert bench.now(controls.Describe(["a"]))[0].durable == 4


def test_where_only_those_are_saved_who_count():
    bench, keeper = bench_of(steps=2, counted_only=True)
    a, b = bench.open("a", "b")
    bench.send({a: chunk(2), b: chunk(2)})
    bench.drain()
    bench.clock.now += 100
    assert not bench.now(transfers.SaveLate())
    assert keeper.steps == []
    bench.send({a: chunk(2), b: chunk(2)}, delivered=[2, 2**64 - 1])
    bench.drain()
    assert keeper.steps == [{"a": 4}]
    assert keeper.waiting[0][0].delivered.tolist() == [2]


@pytest.mark.parametrize("others", [False, True], ids=["alone", "among others"])
def test_what_was_delivered_only_grows_and_is_no_more_than_what_was_applied(others):
    bench, _ = bench_of()
    a, b = bench.open("a", "b")
    known = []
    for delivered in (2**64 - 1, 0, 10**9, 1, 2**63 + 5, 5):
        rows = {a: chunk(1), b: chunk(1)} if others else {a: chunk(1)}
        bench.send(rows, delivered=[delivered, 0][: len(rows)])
        bench.drain()
        known.append(int(bench.engine.sessions.checkpoints.delivered[a & 0xFFFFFFFF]))
    assert known == [NOT_COUNTED, 0, 2, 2, 2, 5]


def test_rows_of_one_session_in_several_messages_count_as_the_largest_says():
    bench, _ = bench_of()
    a, b = bench.open("a", "b")
    step(bench, a, 9)
    bench.send({b: chunk(1)})  # alone, one row goes a way of its own
    bench.send({a: chunk(1)}, delivered=[7])
    bench.send({a: chunk(1)}, delivered=[3])
    bench.send({a: chunk(1)})
    bench.drain()
    assert bench.engine.sessions.checkpoints.delivered[a & 0xFFFFFFFF] == 7


def test_a_client_that_counts_and_never_moves_has_a_bounded_number_kept():
    bench, keeper = bench_of(steps=1)
    (a,) = bench.open("a")
    for _ in range(100):
        step(bench, a, 1, delivered=[0])
    assert len(keeper.waiting) <= 64
    # It goes on when the client has caught up.
    step(bench, a, 1, delivered=[100])
    before = len(keeper.waiting)
    step(bench, a, 1, delivered=[101])
    assert len(keeper.waiting) == before + 1


def test_a_client_that_is_always_some_steps_behind_is_saved_for_ever():
    bench, keeper = bench_of(steps=1)
    (a,) = bench.open("a")
    for applied in range(300):
        step(bench, a, 1, delivered=[max(0, applied - 3)])
    assert len(keeper.waiting) >= 290


def test_an_answer_to_what_was_gathered_before_a_reset_counts_for_nothing():
    bench, keeper = bench_of(steps=2)
    (a,) = bench.open("a")
    step(bench, a, 2)
    reset = bench.now(controls.reset(handles(a)))
    keeper.answer(bench)
    assert step(bench, a, 1).durable[0] == 0
    keeper.acknowledge(bench, reset.value)
    step(bench, a, 1)
    keeper.answer(bench)
    assert step(bench, a, 1).durable[0] == 2


def test_a_refusal_of_what_was_gathered_before_a_reset_ends_the_session_all_the_same():
    bench, keeper = bench_of(steps=2)
    (a,) = bench.open("a")
    step(bench, a, 2)
    bench.now(controls.reset(handles(a)))
    assert keeper.answer(bench, [False]).result.ids == ["a"]
    assert step(bench, a, 1).status[0] is RowStatus.MOVED


def test_a_session_that_goes_back_is_durable_no_further_than_it_stands():
    bench, keeper = bench_of(steps=2)
    (a,) = bench.open("a")
    step(bench, a, 2)
    bench.now(transfers.mark(handles(a), "m"))
    step(bench, a, 4)
    keeper.answer(bench)
    keeper.answer(bench)
    bench.now(transfers.rewind_to_mark(handles(a), "m"))
    (info,) = bench.now(controls.Describe(["a"]))
    assert (info.applied, info.durable) == (2, 2)


def test_an_attached_session_is_the_same_one():
    bench, keeper = bench_of(steps=2)
    (a,) = bench.open("a")
    step(bench, a, 2)
    (again,) = bench.now(controls.Attach(["a"])).handles.tolist()
    keeper.answer(bench)
    assert step(bench, again, 1).durable[0] == 2
    step(bench, again, 1)
    assert keeper.answer(bench, [False]).result.ids == ["a"]
    assert step(bench, again, 1).status[0] is RowStatus.MOVED


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("again", ["a", "b"])
def test_an_answer_that_comes_for_the_entrys_last_session_is_not_the_next_ones(again, kept):
    bench, keeper = bench_of(steps=2)
    (a,) = bench.open("a")
    step(bench, a, 2)
    bench.now(controls.close(handles(a)))
    assert keeper.steps == [{"a": 2}]
    (other,) = bench.open(again)
    assert other & 0xFFFFFFFF == a & 0xFFFFFFFF
    step(bench, other, 1)
    assert keeper.answer(bench, [kept]).result.ids == []
    message = step(bench, other, 1)
    assert (message.status[0], message.durable[0]) == (RowStatus.OK, 0)


@pytest.mark.parametrize("kept", [True, False])
def test_an_answer_for_a_session_that_was_closed(kept):
    bench, keeper = bench_of(steps=2)
    (a,) = bench.open("a")
    step(bench, a, 2)
    ended = bench.now(controls.close(handles(a))).value
    assert ended.ids == ["a"]
    assert ended.stored == [True]
    assert keeper.answer(bench, [kept]).result.ids == []
    assert bench.table.open == 0
    assert len(set(bench.open("b", "c"))) == 2, "the entry was given back once"


def test_an_entry_that_a_claimed_session_has_by_now():
    bench, keeper = bench_of(steps=2)
    (a,) = bench.open("a")
    step(bench, a, 2)
    bench.now(controls.close(handles(a)))
    origin = Origin(np.array([9]), np.array([5]), stored=True)
    (b,) = bench.now(Open(["a"], {"s": np.array([1.0])}, origin)).handles.tolist()
    assert keeper.answer(bench, [False]).result.ids == []
    message = step(bench, b, 1)
    assert (message.applied[0], message.durable[0]) == (10, 9)


def test_those_that_others_have_are_given_up_and_the_others_go_on():
    bench, keeper = bench_of(steps=2)
    a, b, c = bench.open("a", "b", "c")
    bench.send({a: chunk(2), b: chunk(2), c: chunk(2)})
    bench.drain()
    ended = keeper.answer(bench, [True, False, True]).result
    assert ended.ids == ["b"]
    message = bench.send({a: chunk(1), b: chunk(1), c: chunk(1)})
    bench.drain()
    assert [message.status[row] for row in range(3)] == [
        RowStatus.OK,
        RowStatus.MOVED,
        RowStatus.OK,
    ]
    assert message.applied == {0: 3, 1: 0, 2: 3}
    assert "attach" in message.errors[1]


def test_queued_rows_of_a_session_that_is_given_up_do_not_harm_the_entrys_next_one():
    bench, keeper = bench_of(steps=2, max_steps_per_tick=1, runner=RecurrenceRunner(slots=4))
    a, b = bench.open("a", "b")
    step(bench, a, 2)
    bench.send({b: chunk(9)})
    queued = bench.send({a: chunk(6)})
    bench.turn()
    keeper.answer(bench, [False])
    assert queued.status[0] is RowStatus.MOVED
    assert queued.applied[0] == 0, "the row is not told where somebody else's session stands"
    (c,) = bench.open("c")
    assert c & 0xFFFFFFFF == a & 0xFFFFFFFF
    xs = chunk(4, seed=3)
    first, second = bench.send({c: xs[:2]}), bench.send({c: xs[2:]})
    bench.drain()
    np.testing.assert_array_equal(first.outputs[0], solo(xs)[:2])
    np.testing.assert_array_equal(second.outputs[0], solo(xs)[2:])


def test_a_row_that_comes_behind_another_one_of_a_session_that_is_given_up():
    """The first has its place and fails; the second finds no session."""
    bench, keeper = bench_of(steps=1)
    (a,) = bench.open("a")
    step(bench, a, 1)
    keeper.answer(bench, [False])
    messages = [bench.send({a: chunk(1)}) for _ in range(3)]
    bench.drain()
    assert {message.status[0] for message in messages} == {RowStatus.MOVED}
