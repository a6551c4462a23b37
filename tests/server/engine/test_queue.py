"""What waits is bounded and counted, and answers come in parts or whole."""

from __future__ import annotations

import numpy as np

from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, chunk
from tests.support.recurrence import CRASH, solo


def test_rows_beyond_the_queue_are_busy_and_those_in_it_are_not_harmed():
    bench = Bench(queue_rows=3)
    a, b, c = bench.open("a", "b", "c")
    first = bench.send({a: chunk(1), b: chunk(1)})
    refused = bench.send({a: chunk(1), c: chunk(1)})
    fits = bench.send({c: chunk(1)})
    assert refused.status == {0: RowStatus.BUSY, 1: RowStatus.BUSY}, "it is answered at once"
    assert refused.retry_after_ms > 0
    assert "2 rows" in refused.errors[0]
    assert bench.engine.queued.rows == 3
    bench.drain()
    assert set(first.status.values()) | set(fits.status.values()) == {RowStatus.OK}
    again = bench.send({a: chunk(1), c: chunk(1)})
    bench.drain()
    assert set(again.status.values()) == {RowStatus.OK}


def test_bytes_beyond_the_queue_are_busy():
    bench = Bench(queue_bytes=100 * 16)
    a, b = bench.open("a", "b")
    first = bench.send({a: chunk(99)})
    refused = bench.send({b: chunk(2)})
    fits = bench.send({b: chunk(1)})
    assert refused.status[0] is RowStatus.BUSY
    assert bench.engine.queued.bytes == 1600
    bench.drain()
    assert first.status[0] is fits.status[0] is RowStatus.OK


def test_a_stream_that_sends_without_end_leaves_room_for_others():
    bench = Bench(queue_rows=10)
    handles = bench.open(*(f"s{number}" for number in range(16)))
    greedy = [bench.send({handle: chunk(1)}, stream=1) for handle in handles[:12]]
    refused = [message for message in greedy if message.done]
    assert len(refused) == 7, "half of the queue is the most for one stream"
    assert "of this stream are queued" in refused[0].errors[0]
    others = [bench.send({handle: chunk(1)}, stream=2 + n) for n, handle in enumerate(handles[12:])]
    bench.drain()
    assert {status for message in others for status in message.status.values()} == {RowStatus.OK}


def test_one_message_may_fill_an_empty_queue():
    bench = Bench(queue_rows=4)
    handles = bench.open("a", "b", "c", "d")
    message = bench.send({handle: chunk(1) for handle in handles}, stream=1)
    bench.drain()
    assert set(message.status.values()) == {RowStatus.OK}


def test_a_busy_row_says_where_its_session_stands():
    bench = Bench(queue_rows=1)
    a, b = bench.open("a", "b")
    bench.send({a: chunk(5)})
    bench.drain()
    bench.send({b: chunk(1)})
    refused = bench.send([(a, chunk(1))])
    assert refused.status[0] is RowStatus.BUSY
    assert refused.applied[0] == 5


def test_counters_come_back_to_zero_whatever_became_of_the_rows():
    bench = Bench(max_steps_per_tick=2)
    a, b = bench.open("a", "b")
    bench.send([(a, chunk(7)), (a, chunk(1)), (77, chunk(1)), (b, [[CRASH, 0]])])
    bench.send({a: [], b: [[np.nan, 0]]}, timeout=-1.0)
    bench.send({a: chunk(3), b: chunk(1)}, whole=True)
    queued = bench.engine.queued
    assert (queued.rows, queued.steps, queued.bytes) == (8, 10 + 1 + 4, 16 * (10 + 1 + 4))
    bench.drain()


def test_a_row_is_answered_as_soon_as_it_is_over():
    bench = Bench(max_steps_per_tick=4)
    a, b, c = bench.open("a", "b", "c")
    message = bench.send({a: chunk(12), b: chunk(1), c: chunk(8)})
    seen = []
    while not message.done:
        bench.turn()
        seen.append(sorted(message.status))
    assert seen == [[1], [1, 2], [0, 1, 2]]
    assert message.parts == 3
    for row, steps in enumerate((12, 1, 8)):
        np.testing.assert_array_equal(message.outputs[row], solo(chunk(steps)))


def test_a_whole_message_is_answered_once():
    bench = Bench(max_steps_per_tick=4)
    a, b, c, d = bench.open("a", "b", "c", "d")
    whole = bench.send([(a, chunk(12)), (b, chunk(1)), (b, chunk(1)), (c, chunk(8))], whole=True)
    beside = bench.send({d: chunk(1)})
    bench.turn()
    assert beside.done
    assert not whole.parts
    bench.drain()
    assert whole.parts == 1
    assert whole.status[2] is RowStatus.DUPLICATE
    for row, steps in ((0, 12), (1, 1), (3, 8)):
        np.testing.assert_array_equal(whole.outputs[row], solo(chunk(steps)))
