"""Another runner takes over under live sessions: what ends with the old one, what goes on."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.engine import controls
from carousel_server.engine.change import Change
from carousel_server.engine.cost import RunCost
from carousel_server.engine.status import RowStatus
from carousel_server.engine.table import SessionTable
from carousel_server.errors import ModelUnloaded, RunError
from tests.support.bench import Bench, Reply, chunk, handles
from tests.support.driven import ALWAYS_INLINE, NEVER_INLINE, driven
from tests.support.recurrence import RecurrenceRunner, solo


class Newer(RecurrenceRunner):
    """The next version: the same states, and outputs that are 0.5 larger, to be told by."""

    def run(self, slots, lengths, inputs):
        outputs, bad = super().run(slots, lengths, inputs)
        return {"y": outputs["y"] + 0.5}, bad


class Broken(RecurrenceRunner):
    """A version whose pool can't be written to."""

    def write(self, slots, states):
        raise MemoryError("no room on the device")


def changed(bench: Bench, runner: RecurrenceRunner) -> Reply:
    reply = Reply()
    bench.engine.change(Change(runner, RunCost(), reply.take))
    return reply


def test_queued_rows_end_with_the_old_runner_and_later_ones_begin_with_the_new():
    bench = Bench(RecurrenceRunner(slots=8), max_steps_per_tick=4)
    a, b = bench.open("a", "b")
    xs = chunk(30)
    before = bench.send({a: xs[:20], b: xs[:3]})
    bench.turn()  # the chunk is begun
    reply = changed(bench, Newer(slots=8))
    behind = bench.send({b: xs[3:9]}, first_step=[3])
    opened = bench.call(controls.Open(["c"], {}))
    bench.turn()
    assert not reply.done
    assert not behind.done
    assert not opened.done
    bench.drain()
    assert (reply.result, before.applied, behind.applied) == (2, {0: 20, 1: 3}, {0: 9})
    np.testing.assert_array_equal(before.outputs[0], solo(xs[:20]))
    np.testing.assert_array_equal(behind.outputs[0], solo(xs[:9])[3:] + 0.5)
    rest = bench.send({a: xs[20:], int(opened.result.handles[0]): xs[:2]})
    bench.drain()
    np.testing.assert_array_equal(rest.outputs[0], solo(xs)[20:] + 0.5)
    np.testing.assert_array_equal(rest.outputs[1], solo(xs[:2]) + 0.5)


def test_states_move_whether_they_are_live_parked_or_still_at_their_beginning():
    bench = Bench(RecurrenceRunner(slots=2))
    opened = bench.open(*"abcd")
    xs = chunk(8)
    for handle in opened[:3]:  # the first one is parked, the last one never stepped
        bench.send({handle: xs[:4]})
        bench.drain()
    reply = changed(bench, Newer(slots=2, initial=7.0))
    bench.drain()
    assert reply.result == 4
    after = [bench.send({handle: xs[4:]}) for handle in opened]
    bench.drain()
    for message in after[:3]:
        assert message.applied == {0: 8}
        np.testing.assert_array_equal(message.outputs[0], solo(xs)[4:] + 0.5)
    # Its state is the one that the version begins with which steps it first.
    np.testing.assert_array_equal(after[3].outputs[0], solo(xs[4:], 7.0) + 0.5)


def test_a_change_follows_the_limits_of_the_new_model():
    bench = Bench(RecurrenceRunner(slots=8))
    opened = bench.open(*"abc")
    newer = Newer(slots=8, time_axis=False, max_batch=2)
    changed(bench, newer)
    xs = chunk(5)
    message = bench.send(dict.fromkeys(opened, xs))
    bench.drain()
    for row in range(3):
        np.testing.assert_array_equal(message.outputs[row], solo(xs) + 0.5)
    assert {run.lengths[0] for run in newer.runs} == {1}
    assert max(len(run.slots) for run in newer.runs) == 2


def test_states_that_can_not_be_moved_stay_where_they_are():
    bench = Bench(RecurrenceRunner(slots=8))
    (a,) = bench.open("a")
    xs = chunk(6)
    bench.send({a: xs[:3]})
    reply = changed(bench, Broken(slots=8))
    rest = bench.send({a: xs[3:]})
    bench.drain()
    assert isinstance(reply.error, RunError)
    assert "no room on the device" in str(reply.error)
    np.testing.assert_array_equal(rest.outputs[0], solo(xs)[3:])


@pytest.mark.parametrize("inline", [ALWAYS_INLINE, NEVER_INLINE])
async def test_a_driver_changes_runners_on_the_loop_and_on_its_thread(inline):
    bench = Bench(RecurrenceRunner(slots=8))
    async with driven(bench, inline) as driver:
        opened = await driver.control(controls.Open(["a"], {}))
        moved = await driver.change(Newer(slots=8), cost=RunCost(), inline_rows=NEVER_INLINE)
        assert moved == 1
        infos = await driver.control(controls.Describe(["a"]))
        assert [info.id for info in infos] == ["a"]
        assert len(opened.handles) == 1


async def test_a_driver_that_was_stopped_says_so():
    bench = Bench()
    async with driven(bench, ALWAYS_INLINE) as driver:
        await driver.stop()
        with pytest.raises(ModelUnloaded, match="was unloaded a moment ago"):
            await driver.control(controls.Open(["a"], {}))
    assert bench.table.open == 0


def test_handles_of_one_engine_are_none_at_another():
    tables = [SessionTable(4, number) for number in range(5)]
    given = []
    for table in tables:
        entries = table.add(["a", "b"], opened=0.0, now=0.0)
        for _ in range(3):
            table.invalidate(entries, RowStatus.STALE_HANDLE)
        given.append(table.handles(entries))
    for own, table in enumerate(tables):
        for other, column in enumerate(given):
            _, status = table.resolve(column)
            assert set(status.tolist()) == ({0} if own == other else {RowStatus.NOT_FOUND})
    stale = handles(int(given[3][0]) - (1 << 32))
    assert tables[3].resolve(stale)[1].tolist() == [RowStatus.STALE_HANDLE]
