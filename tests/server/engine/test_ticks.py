"""Ticks on a device that works by itself: one is begun beside another, and nobody can tell."""

from __future__ import annotations

import random

import numpy as np
import pytest

from carousel_server.engine import controls, transfers
from carousel_server.engine.checkpoints import Gathered, SavePolicy
from carousel_server.engine.observer import Observer
from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, chunk, handles
from tests.support.gathering import ByHand
from tests.support.overlapping import OverlappingRunner
from tests.support.recurrence import CRASH, SPOIL, RecurrenceRunner, solo


class Slow(OverlappingRunner):
    """Does nothing before it is waited for, or looked at again and again."""

    looks = 0

    def maybe_work(self):
        self.looks += 1
        if self.looks % 20 == 0:
            super().maybe_work()


def bench_of(slots=8, **limits) -> Bench:
    return Bench(Slow(slots=slots), **limits)


def begin(bench, *sent):
    """Send a message, and have its tick begun."""
    messages = [bench.send(each) for each in sent]
    bench.turn()
    return messages


def test_a_tick_begins_beside_another_one():
    bench = bench_of()
    a, b, c, d = bench.open(*"abcd")
    (first,) = begin(bench, {a: chunk(1), b: chunk(1)})
    assert bench.runner.most_under_way == 1
    assert not first.done
    (second,) = begin(bench, {c: chunk(1, 1), d: chunk(1, 1)})
    assert bench.runner.most_under_way == 2
    assert first.done, "what was under way has ended meanwhile"
    assert not second.done
    bench.drain()
    for message, seed in ((first, 0), (second, 1)):
        for row in range(2):
            np.testing.assert_array_equal(message.outputs[row], solo(chunk(1, seed)))


def test_not_with_less_than_half_as_many_rows():
    bench = bench_of()
    opened = bench.open(*"abcd")
    begin(bench, {handle: chunk(1) for handle in opened[:3]})
    few = bench.send({opened[3]: chunk(1)})
    bench.turn()
    assert bench.runner.most_under_way == 1
    assert not few.done
    bench.drain()
    assert few.done


def test_more_than_a_tick_can_hold_is_worth_it_too():
    bench = bench_of(slots=6, max_rows_per_tick=2)
    opened = bench.open(*(f"s{number}" for number in range(12)))
    (first,) = begin(bench, {handle: chunk(1) for handle in opened})
    bench.turn()
    assert bench.runner.most_under_way == 2
    bench.drain()
    assert len(first.outputs) == 12


def test_nobody_looks_for_others_where_all_sessions_are_in_it():
    bench = bench_of()
    a, b = bench.open(*"ab")
    begin(bench, {a: chunk(1), b: chunk(1)})
    bench.turn()
    assert not bench.runner.looks, "it was waited for"
    bench.open("c")
    begin(bench, {a: chunk(1), b: chunk(1)})
    bench.turn()
    assert bench.runner.looks, "another session may come"


def test_not_where_all_of_their_sessions_have_no_slots():
    bench = bench_of(slots=3)
    a, b, c, d = bench.open(*"abcd")
    begin(bench, {a: chunk(1), b: chunk(1)})
    (second,) = begin(bench, {c: chunk(1), d: chunk(1)})
    assert bench.runner.most_under_way == 1
    bench.drain()
    np.testing.assert_array_equal(second.outputs[1], solo(chunk(1)))


def test_a_session_is_in_one_tick_at_a_time():
    """Whether its next row may run is known when this one has."""
    bench = bench_of()
    a, b = bench.open(*"ab")
    first, behind = begin(bench, {a: chunk(1), b: chunk(1)}, {a: chunk(1, 1), b: chunk(1, 1)})
    bench.turn()
    assert bench.runner.most_under_way == 1
    bench.drain()
    both = solo(np.concatenate([chunk(1), chunk(1, 1)]))
    np.testing.assert_array_equal(behind.outputs[0], both[1:])
    assert first.done


def test_nobody_came_before_they_were_sent():
    """What comes while a tick is waited for has not been queued since before that."""
    waits = []

    class Watching(Observer):
        def queued(self, seconds):
            waits.append(seconds)

    bench = bench_of(observer=Watching())
    a, b, c, d = bench.open(*"abcd")
    begin(bench, {a: chunk(1), b: chunk(1)})

    waits.clear()
    sent = []

    def meanwhile():
        if not sent:
            bench.clock.now += 1
            sent.append(bench.send({c: chunk(1), d: chunk(1)}))

    for delivery in bench.engine.turn(before_wait=meanwhile):
        delivery()
    assert bench.runner.most_under_way == 2
    assert waits == [0.0]


def test_of_many_runs_of_a_tick_some_are_under_way_at_a_time():
    bench = Bench(OverlappingRunner(slots=40, max_batch=1))
    opened = bench.open(*(f"s{number}" for number in range(20)))
    message = bench.send({handle: chunk(2, handle % 9) for handle in opened})
    bench.turn()
    assert bench.runner.most_under_way == 4
    bench.drain()
    assert bench.runner.most_under_way == 5, "one more is begun before one is waited for"
    for row, handle in enumerate(opened):
        np.testing.assert_array_equal(message.outputs[row], solo(chunk(2, handle % 9)))


def test_pieces_of_a_long_chunk_alternate_with_others():
    bench = bench_of(max_steps_per_tick=2)
    a, b = bench.open(*"ab")
    long, other = bench.send({a: chunk(9)}), None
    bench.turn()
    other = bench.send({b: chunk(9, 1)})
    bench.drain()
    assert bench.runner.most_under_way == 2
    np.testing.assert_array_equal(long.outputs[0], solo(chunk(9)))
    np.testing.assert_array_equal(other.outputs[0], solo(chunk(9, 1)))


@pytest.mark.parametrize(
    ("value", "status"), [(CRASH, RowStatus.MODEL_ERROR), (SPOIL, RowStatus.NUMERIC_FAULT)]
)
def test_a_row_that_fails_beside_another_tick_hurts_nobody(value, status):
    bench = bench_of()
    a, b, c, d = bench.open(*"abcd")
    (first,) = begin(bench, {a: [[value, 0.0]], b: chunk(1)})
    behind = bench.send({a: chunk(1)}, first_step=[1])
    (second,) = begin(bench, {c: chunk(1), d: chunk(1)})
    bench.drain()
    assert bench.runner.most_under_way == 2
    assert first.status == {0: status, 1: RowStatus.OK}
    assert behind.status == {0: RowStatus.OUT_OF_ORDER}
    np.testing.assert_array_equal(first.outputs[1], solo(chunk(1)))
    np.testing.assert_array_equal(second.outputs[0], solo(chunk(1)))


def test_calls_see_sessions_between_ticks():
    """A state that is read has taken in as many steps as is said."""
    bench = bench_of()
    a, b, c, d = bench.open(*"abcd")
    begin(bench, {a: chunk(1), b: chunk(1)})
    copied = bench.call(transfers.copy_out(handles(c)))
    sent = bench.send({c: chunk(1), d: chunk(1)})
    copied_later = bench.call(transfers.copy_out(handles(a, c)))
    bench.drain()
    assert bench.runner.most_under_way == 1
    assert copied.result.value.steps.tolist() == [0]
    gathered: Gathered = copied_later.result.value
    assert gathered.steps.tolist() == [1, 1]
    assert gathered.states["s"].tolist() == [solo(chunk(1))[-1, 0]] * 2
    assert sent.done


def test_a_call_that_comes_when_another_tick_is_decided_on_waits_too(monkeypatch):
    """The loop puts calls in at any time: also after the engine saw that there was none."""
    keeper = ByHand()
    saves = SavePolicy(steps=100, seconds=0.0, counted_only=False)
    bench = bench_of(keeper=keeper, saves=saves)
    a, b, c, d = bench.open(*"abcd")
    begin(bench, {a: chunk(1), b: chunk(1)})
    bench.drain()
    begin(bench, {a: chunk(1), b: chunk(1)})
    sent = bench.send({c: chunk(1), d: chunk(1)})
    ticks = bench.engine._ticks
    wait, late = ticks.wait, []

    def wait_and_see(until):
        came = wait(until)
        late.append(bench.call(transfers.SaveLate()))
        return came

    monkeypatch.setattr(ticks, "wait", wait_and_see)
    bench.turn()
    assert bench.runner.most_under_way == 2
    assert not late[0].done
    assert not sent.done
    bench.drain()
    assert late[0].done
    (gathered, _), *_ = keeper.waiting
    for name, steps, state in zip(
        gathered.ids, gathered.steps.tolist(), gathered.states["s"].tolist(), strict=True
    ):
        assert steps == {"a": 2, "b": 2, "c": 1, "d": 1}[name]
        assert state == solo(np.concatenate([chunk(1)] * steps))[-1, 0]


def test_states_are_parked_and_come_back_without_a_wait():
    bench = bench_of(slots=2)
    a, b, c, d = bench.open(*"abcd")
    for pair in ((a, b), (c, d)):
        for handle in pair:
            bench.send({handle: chunk(2, handle % 7)})
        bench.drain()
    parked = bench.engine.sessions.residency.lot
    assert parked.taken == 2
    assert parked._coming, "nobody has asked for them"
    gone = bench.call(controls.close(handles(b)))
    bench.drain()
    assert gone.error is None
    again = bench.send({a: chunk(1, 5)})
    bench.drain()
    expected = solo(np.concatenate([chunk(2, a % 7), chunk(1, 5)]))
    np.testing.assert_array_equal(again.outputs[0], expected[2:])


def test_what_is_under_way_ends_with_the_engine():
    bench = bench_of()
    (a,) = bench.open("a")
    message = bench.send({a: chunk(3)})
    bench.turn()
    if not message.done:
        for delivery in bench.engine.finish():
            delivery()
    assert message.done
    assert bench.engine.finish() == []


def test_what_is_of_the_same_sessions_makes_no_idle_turns():
    bench = bench_of()
    a, b = bench.open(*"ab")
    begin(bench, {a: chunk(1), b: chunk(1)})
    behind = [bench.send({a: chunk(1, 1)}), bench.send({b: chunk(1, 2)})]
    bench.turn()  # ends the first
    bench.turn()  # begins the second
    assert not any(message.done for message in behind)
    bench.turn()
    assert all(message.done for message in behind)


def test_a_lone_session_that_sends_ahead():
    bench = bench_of()
    (a,) = bench.open("a")
    sent = [bench.send({a: chunk(1, step)}, first_step=[step], stream=1) for step in range(3)]
    for _ in range(4):
        bench.turn()
    bench.drain()
    expected = solo(np.concatenate([chunk(1, step) for step in range(3)]))
    for step, message in enumerate(sent):
        np.testing.assert_array_equal(message.outputs[0], expected[step : step + 1])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("slots", [3, 5, 40])
def test_many_sessions_on_few_slots_are_what_they_are_alone(seed, slots):
    rng = random.Random(seed)
    runner = OverlappingRunner(slots=slots, seed=seed)
    bench = Bench(runner, max_steps_per_tick=2, max_rows_per_tick=rng.choice([2, 4, 100]))
    names = [f"s{number}" for number in range(12)]
    opened = bench.open(*names)
    sent = {handle: [] for handle in opened}
    for number in range(60):
        chosen = rng.sample(opened, rng.randint(1, 4))
        rows = {handle: chunk(rng.choice([1, 1, 3]), number) for handle in chosen}
        message = bench.send(rows)
        for row, (handle, x) in enumerate(rows.items()):
            sent[handle].append((x, message, row))
        bench.turn(rng.randrange(3))
    bench.drain()
    for parts in sent.values():
        if parts:
            answers = np.concatenate([message.outputs[row] for _, message, row in parts])
            np.testing.assert_array_equal(answers, solo(np.concatenate([x for x, _, _ in parts])))


def test_elsewhere_nothing_is_put_off():
    bench = Bench(RecurrenceRunner())
    (a,) = bench.open("a")
    message = bench.send({a: chunk(1)})
    bench.turn()
    assert message.done
