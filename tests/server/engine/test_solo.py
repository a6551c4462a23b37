"""The short way of a row that is alone: taken when all is well, and never to another answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from carousel_server.engine import controls
from carousel_server.engine.batch import StepBatch
from carousel_server.engine.cost import RunCost
from carousel_server.engine.scheduler import Limits
from carousel_server.engine.solo import Solo
from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, chunk
from tests.support.recurrence import CRASH, SPOIL, RecurrenceRunner, solo
from tests.support.steps import batch_of

_LIMITS = Limits(rows=8, steps=4, seconds=1.0, cost=RunCost(), batch=0, ragged=True)


def step(bench: Bench, batch: StepBatch, before_wait=lambda: None):
    short = Solo(bench.table, bench.runner, _LIMITS)
    entry, batches = short.find([batch])
    answers = short.step(batches, entry, before_wait) if batches else []
    return answers[0] if answers else None


def resident(bench: Bench) -> int:
    """Open a session and step it once, so that it has a slot."""
    (handle,) = bench.open("a")
    bench.send({handle: chunk(1)})
    bench.drain()
    return handle


@pytest.mark.parametrize("steps", [1, 4])
def test_a_row_that_is_alone_is_stepped(steps):
    bench = Bench()
    handle = resident(bench)
    whole = np.concatenate([chunk(1), chunk(steps, seed=1)])
    batch, message = batch_of([(handle, whole[1:])], first_step=[1])
    ran: list[None] = []
    answer = step(bench, batch, before_wait=lambda: ran.append(None))
    assert answer is not None
    message.take(answer)
    assert len(ran) == 1
    assert message.applied == {0: 1 + steps}
    np.testing.assert_array_equal(message.outputs[0], solo(whole)[1:])


@pytest.mark.parametrize(
    ("row", "first_step", "deadline"),
    [
        pytest.param(chunk(1), 0, math.inf, id="behind"),
        pytest.param(chunk(1), 2, math.inf, id="ahead"),
        pytest.param(chunk(5), 1, math.inf, id="longer than a piece"),
        pytest.param(np.empty((0, 2)), 1, math.inf, id="no steps"),
        pytest.param([[math.nan, 0.0]], 1, math.inf, id="not finite"),
        pytest.param([[CRASH, 0.0]], 1, math.inf, id="the run raises"),
        pytest.param([[SPOIL, 0.0]], 1, math.inf, id="the state overflows"),
        pytest.param(chunk(1), 1, 999.0, id="late"),
    ],
)
def test_where_anything_is_in_doubt_nothing_is_done(row, first_step, deadline):
    bench = Bench()
    handle = resident(bench)
    states = bench.runner.states.copy()
    batch, _ = batch_of([(handle, row)], first_step=[first_step], deadline=deadline)
    assert step(bench, batch) is None
    assert bench.table.applied[handle & 0xFFFFFFFF] == 1
    np.testing.assert_array_equal(bench.runner.states, states)


def test_handles_that_are_not_valid_and_sessions_without_a_slot_are_left_to_others():
    bench = Bench()
    (fresh,) = bench.open("fresh")
    for handle in (fresh, fresh + (1 << 32), 2**63 + 2**31, 0, 1):
        batch, _ = batch_of([(handle, chunk(1))])
        assert step(bench, batch) is None


def test_a_row_that_fails_is_answered_as_others_are():
    bench = Bench()
    handle = resident(bench)
    wrong = bench.send({handle: [[SPOIL, 0.0]]}, stream=1)
    behind = bench.send({handle: chunk(1)}, stream=1)
    bench.drain()
    assert (wrong.status, behind.status) == (
        {0: RowStatus.NUMERIC_FAULT},
        {0: RowStatus.OUT_OF_ORDER},
    )


def send_apart(bench: Bench, handle: int, rows, **options):
    """Send chunks in messages of their own, each going on where the last one ends."""
    at, sent = 1, []
    for row in rows:
        sent.append(bench.send({handle: row}, first_step=[at], stream=1, **options))
        at += len(row)
    return sent


@pytest.mark.parametrize("sizes", [[1, 1], [3, 2, 1], [1] * 6, [4, 4, 4], [1] * 20])
def test_chunks_that_wait_behind_each_other_run_as_one_and_are_answered_apart(sizes):
    bench = Bench(max_steps_per_tick=8)
    handle = resident(bench)
    rows = [chunk(size, seed=number) for number, size in enumerate(sizes)]
    sent = send_apart(bench, handle, rows)
    before = len(bench.runner.runs)
    bench.drain()
    assert len(bench.runner.runs) - before < len(sizes)
    expected = solo(np.concatenate([chunk(1), *rows]))
    at = 1
    for message, row in zip(sent, rows, strict=True):
        assert message.status == {0: RowStatus.OK}
        np.testing.assert_array_equal(message.outputs[0], expected[at : at + len(row)])
        at += len(row)
        assert message.applied == {0: at}
    assert bench.table.applied[handle & 0xFFFFFFFF] == at


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ([[math.nan, 0.0]], RowStatus.INVALID),
        ([[CRASH, 0.0]], RowStatus.MODEL_ERROR),
        ([[SPOIL, 0.0]], RowStatus.NUMERIC_FAULT),
    ],
)
def test_of_chunks_that_wait_those_before_a_faulty_one_are_stepped(wrong, status):
    bench = Bench()
    handle = resident(bench)
    good, bad, behind = send_apart(bench, handle, [chunk(2), wrong, chunk(1)])
    bench.drain()
    assert good.status == {0: RowStatus.OK}
    assert bad.status == {0: status}
    assert behind.status == {0: RowStatus.OUT_OF_ORDER}
    np.testing.assert_array_equal(good.outputs[0], solo(np.concatenate([chunk(1), chunk(2)]))[1:])
    assert bench.table.applied[handle & 0xFFFFFFFF] == 3


def test_of_chunks_that_wait_those_before_a_gap_are_stepped():
    bench = Bench()
    handle = resident(bench)
    good = bench.send({handle: chunk(2)}, first_step=[1], stream=1)
    gap = bench.send({handle: chunk(1)}, first_step=[9], stream=1)
    bench.drain()
    assert (good.status, gap.status) == ({0: RowStatus.OK}, {0: RowStatus.OUT_OF_ORDER})


def test_another_sessions_row_behind_them_shares_the_tick():
    bench = Bench()
    handle = resident(bench)
    (other,) = bench.open("b")
    sent = [*send_apart(bench, handle, [chunk(1), chunk(1, seed=1)])]
    sent.append(bench.send({other: chunk(1, seed=2)}, stream=2))
    bench.drain()
    assert all(message.status == {0: RowStatus.OK} for message in sent)
    np.testing.assert_array_equal(sent[2].outputs[0], solo(chunk(1, seed=2)))


def test_a_session_that_never_waits_for_its_answers_comes_back_to_the_short_way():
    """Otherwise what goes the long way keeps what comes behind it there, as long as more comes."""
    bench = Bench(max_steps_per_tick=4)
    handle = resident(bench)
    rows = [chunk(2, seed=number) for number in range(24)]
    sent, at = [], 1

    def send() -> None:
        nonlocal at
        sent.append(bench.send({handle: rows[len(sent)]}, first_step=[at], stream=1))
        at += 2

    for _ in range(3):
        send()
    bench.call(controls.Describe(["a"]))  # the long way takes it in, and the chunks with it
    while len(sent) < len(rows):
        bench.turn()
        while len(sent) < len(rows) and sum(not message.done for message in sent) < 4:
            send()
    bench.drain()
    assert all(message.status == {0: RowStatus.OK} for message in sent)
    expected = solo(np.concatenate([chunk(1), *rows]))[1:]
    got = np.concatenate([message.outputs[0] for message in sent])
    np.testing.assert_array_equal(got, expected)
    assert max(run.lengths[0] for run in bench.runner.runs[-4:]) == 4  # two chunks at a time


def test_rows_that_do_not_say_where_they_go_on_are_queued_behind_one_that_fails():
    bench = Bench(max_steps_per_tick=1)
    handle = resident(bench)
    wrong = bench.send({handle: [[1.0, 0.0], [SPOIL, 0.0]]}, stream=1)
    bench.call(controls.Describe(["a"]))
    bench.turn()
    behind = bench.send({handle: chunk(1)}, stream=1)
    bench.drain()
    assert wrong.status == {0: RowStatus.NUMERIC_FAULT}
    assert behind.status == {0: RowStatus.OUT_OF_ORDER}


def test_a_parked_session_comes_back_alone():
    bench = Bench(RecurrenceRunner(slots=1))
    first, other = bench.open("a", "b")
    for handle in (first, other):  # the second takes the only slot
        bench.send({handle: chunk(1)})
        bench.drain()
    back = bench.send({first: chunk(2, seed=1)}, first_step=[1])
    bench.drain()
    np.testing.assert_array_equal(
        back.outputs[0], solo(np.concatenate([chunk(1), chunk(2, seed=1)]))[1:]
    )
