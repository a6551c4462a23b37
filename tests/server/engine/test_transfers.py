"""States taken out of sessions, put into others, and gone back to."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.engine import controls, transfers
from carousel_server.engine.checkpoints import SavePolicy
from carousel_server.engine.marks import Mark
from carousel_server.engine.sessions import Origin
from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, chunk, handles
from tests.support.gathering import ByHand
from tests.support.recurrence import RecurrenceRunner, solo

OK, MOVED = RowStatus.OK, RowStatus.MOVED


def bench_of(**more) -> tuple[Bench, ByHand]:
    keeper = ByHand()
    return Bench(keeper=keeper, saves=SavePolicy(steps=1000, counted_only=False), **more), keeper


def step(bench: Bench, handle: int, xs, **more):
    message = bench.send({handle: xs}, **more)
    bench.drain()
    return message


def test_a_copy_waits_for_queued_rows_and_changes_nothing():
    bench, keeper = bench_of(max_steps_per_tick=2)
    (a,) = bench.open("a")
    xs = chunk(6)
    bench.send({a: xs[:5]})
    copy = bench.call(transfers.copy_out(handles(a)))
    bench.drain()
    gathered = copy.result.value
    assert (gathered.ids, gathered.steps.tolist()) == (["a"], [5])
    assert gathered.states["s"][0] == solo(xs)[4, 0]
    np.testing.assert_array_equal(step(bench, a, xs[5:]).outputs[0], solo(xs)[5:])
    assert keeper.waiting == []


@pytest.mark.parametrize("parked", [False, True])
def test_copies_of_live_parked_and_fresh_sessions(parked):
    bench, _ = bench_of()
    a, b = bench.open("a", "b")
    step(bench, a, chunk(3))
    if parked:
        bench.now(controls.Park(0))
    acted = bench.now(transfers.copy_out(handles(a, 12345, b, a)))
    assert acted.status.tolist() == [OK, RowStatus.NOT_FOUND, OK, RowStatus.DUPLICATE]
    assert acted.value.states["s"].tolist() == [solo(chunk(3))[-1, 0], 0.0]
    assert acted.value.initial.tolist() == [True, True]


def test_sessions_that_go_on_elsewhere_begin_where_they_stood():
    bench, _ = bench_of()
    origin = Origin(
        np.array([40]),
        np.array([7]),
        stored=True,
        opened=np.array([123.0]),
        initial=np.array([True]),
    )
    opened = bench.now(controls.Open(["a"], {"s": np.array([5.0])}, origin))
    assert (opened.applied.tolist(), opened.durable.tolist()) == ([40], [40])
    (a,) = opened.handles.tolist()
    xs = chunk(2)
    message = step(bench, a, xs, first_step=[40])
    np.testing.assert_array_equal(message.outputs[0], solo(xs, 5.0))
    assert bench.now(controls.Describe(["a"]))[0].opened == 123.0
    gathered = bench.now(transfers.copy_out(handles(a))).value
    assert (gathered.tokens.tolist(), gathered.initial.tolist()) == ([7], [True])


def test_putting_back_to_kept_states_to_the_beginning_and_to_nowhere():
    bench, _ = bench_of()
    a, b, c = bench.open("a", "b", "c")
    bench.send({a: chunk(9), b: chunk(9), c: chunk(9)})
    bench.drain()
    places = [Mark(4, {"s": np.array(8.0)}), transfers.BEGINNING, None]
    rewound = bench.now(transfers.put_back(handles(c, a, b), places)).value
    assert sorted(rewound.gathered.ids) == ["a", "c"]
    infos = bench.now(controls.Describe(["a", "b", "c"]))
    assert [info.applied for info in infos] == [0, 9, 4]
    xs = chunk(2)
    np.testing.assert_array_equal(step(bench, c, xs).outputs[0], solo(xs, 8.0))
    np.testing.assert_array_equal(step(bench, a, xs).outputs[0], solo(xs))


def test_who_began_as_the_model_does_can_go_back_to_that_without_a_checkpoint():
    bench, _ = bench_of()
    (a,) = bench.open("a")
    (b,) = bench.open("b", states={"s": np.array([4.0])})
    bench.send({a: chunk(3), b: chunk(3)})
    bench.drain()
    rewound = bench.now(transfers.put_back(handles(a, b), [None, None], or_begin=True)).value
    assert rewound.found.tolist() == [True, False]
    infos = bench.now(controls.Describe(["a", "b"]))
    assert [info.applied for info in infos] == [0, 3]


def test_putting_back_ends_the_failure_in_front_of_it():
    bench, _ = bench_of(max_steps_per_tick=1)
    (a,) = bench.open("a")
    bench.send({a: chunk(2)})
    bench.send({a: chunk(1)}, first_step=[9])
    put = bench.call(transfers.put_back(handles(a), [transfers.BEGINNING]))
    behind = bench.send({a: chunk(2)})
    bench.drain()
    assert put.result.value.found.tolist() == [True]
    np.testing.assert_array_equal(behind.outputs[0], solo(chunk(2)))


def test_what_was_put_back_is_owed_to_the_store_till_it_has_it():
    bench, keeper = bench_of()
    (a,) = bench.open("a")
    bench.now(transfers.SetTokens(handles(a), np.array([3])))
    step(bench, a, chunk(3))
    before = bench.now(transfers.begun(handles(a))).value
    reset = bench.now(controls.reset(handles(a))).value
    keeper.acknowledge(bench, before)
    assert bench.now(controls.Attach(["a"])).owed.tolist() == [True]
    keeper.acknowledge(bench, reset)
    assert bench.now(controls.Attach(["a"])).owed.tolist() == [False]


def test_leaving_waits_for_queued_rows_and_answers_later_ones_moved():
    bench, _ = bench_of(max_steps_per_tick=2)
    (a,) = bench.open("a")
    before = bench.send({a: chunk(5)})
    left = bench.call(transfers.Leave(["a", "nobody"]))
    behind = bench.send({a: chunk(1)})
    bench.drain()
    assert before.status[0] is OK
    assert behind.status[0] is MOVED
    gathered = left.result
    assert (gathered.ids, gathered.steps.tolist()) == (["a"], [5])
    ended = bench.now(transfers.GiveUp(gathered))
    assert ended.ids == ["a"]
    assert bench.table.open == 0
    assert bench.now(transfers.Leave(["a"])) is None


def test_who_is_attached_to_while_it_leaves_stays():
    bench, _ = bench_of()
    a, _b = bench.open("a", "b")
    step(bench, a, chunk(2))
    gathered = bench.now(transfers.Leave(["a", "b"]))
    (again,) = bench.now(controls.Attach(["a"])).handles.tolist()
    assert bench.now(transfers.GiveUp(gathered)).ids == ["b"]
    assert step(bench, again, chunk(1)).status[0] is OK


def test_giving_up_leaves_the_entrys_next_session_alone():
    bench, _ = bench_of(runner=RecurrenceRunner(slots=2))
    (a,) = bench.open("a")
    gathered = bench.now(transfers.Leave(["a"]))
    bench.now(transfers.GiveUp(gathered))
    (b,) = bench.open("a")
    assert b & 0xFFFFFFFF == a & 0xFFFFFFFF
    assert bench.now(transfers.GiveUp(gathered)).ids == []
    assert step(bench, b, chunk(1)).status[0] is OK


def test_leaving_by_handle():
    bench, _ = bench_of()
    a, b = bench.open("a", "b")
    acted = bench.now(transfers.leave(handles(a, 99)))
    assert acted.status.tolist() == [OK, RowStatus.NOT_FOUND]
    assert step(bench, a, chunk(1)).status[0] is MOVED
    assert step(bench, b, chunk(1)).status[0] is OK


def test_tokens_are_noted():
    bench, _ = bench_of()
    a, b = bench.open("a", "b")
    bench.now(transfers.SetTokens(handles(a, b, 77), np.array([4, 5, 6])))
    gathered = bench.now(transfers.Gather(["b", "a", "z"]))
    assert dict(zip(gathered.ids, gathered.tokens.tolist(), strict=True)) == {"a": 4, "b": 5}
    assert bench.now(transfers.Gather(["z"])) is None
    ended = bench.now(controls.close(handles(b))).value
    assert (ended.ids, ended.tokens, ended.stored) == (["b"], [5], [True])
    assert sorted(bench.now(transfers.Ids())) == ["a"]
