"""The protocol without a network: any split, any order, the same result."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import carousel_client as carousel
from carousel.v1 import sessions_pb2 as pb
from carousel_client._arrays import Chunks, many_sessions, one_session
from carousel_client._block import Barrier, Block, Roster
from carousel_client._exchange import Exchange
from carousel_client._models import Limits, ServerInfo, model_info
from carousel_client._outcomes import lose, reattached
from carousel_client._waiting import result
from tests.client.fake import MODELS, Fake

SUM = model_info(MODELS[2])


class Bench:
    """An exchange and a model in memory, with the clock and the order of answers in our hands."""

    def __init__(self, **limits):
        chosen = {"max_message_bytes": 2**22, "max_chunk": 100, "queue_rows": 1000} | limits
        self.fake = Fake()
        self.exchange = Exchange(max_message_bytes=2**22, patience=1.0)
        self.info = ServerInfo(
            version="0",
            server_id=self.fake.server_id,
            advertised_address="",
            resumable=False,
            draining=False,
            limits=Limits(**chosen),
        )
        self.host = self.exchange.meet("here", self.info)
        self.host.online = True
        self.now = 0.0
        self.sent = []

    def roster(self, n):
        ids = [f"s{i}-{self.fake.new_handle()}" for i in range(n)]
        for name in ids:
            self.fake.put(name, MODELS[2], np.zeros(2))
        handles = np.array([self.fake.sessions[i].handle for i in ids], np.uint64)
        zeros = np.zeros(n, np.int64)
        return Roster(SUM, ids, handles, zeros, zeros + self.host.number, self.host)

    def receive(self, answer):
        self.exchange.receive(self.host, answer, self.now)

    def reconnect(self, roster, rows):
        """Come back, with what attaching found of each row: handle and applied, or an error."""
        self.exchange.meet("here", self.info)
        for row, found in enumerate(rows):
            if isinstance(found, carousel.CarouselError):
                lose(roster, row, found)
                continue
            roster.handles[row] = found[0]
            roster.place(np.array([row]), self.host)
            reattached(roster, row, found[1])
        self.exchange.advance(roster)
        self.host.online = True

    def submit(self, roster, x, **options):
        many = len(roster.ids) > 1
        chunks = many_sessions(SUM, x, len(roster.ids)) if many else one_session(SUM, x)
        block = Block(roster, chunks, **options)
        self.exchange.submit(block)
        return block

    def take(self):
        """Return the messages that are sent now."""
        found = [message.step for _, message in self.exchange.messages(self.now)]
        self.sent += found
        return found

    def settle(self, rng=None):
        """Answer everything, in random order if there is a generator."""
        waiting = []
        for _ in range(10_000):
            for step in self.take():
                waiting += self.fake.run(step)
            if not waiting and self.exchange.wakeup() is not None:
                self.now = self.exchange.wakeup()
                continue
            if not waiting:
                return
            index = 0
            if rng is not None:
                ids = [answer.id for answer in waiting]
                index = rng.randrange(len(waiting))
                # Parts of one request keep their order: `done` is in the last.
                index = ids.index(waiting[index].id)
            self.receive(waiting.pop(index))
        raise AssertionError("never comes to an end")


def sums(x):
    return np.cumsum(np.asarray(x, np.float32), axis=0)


def data(steps, seed=0):
    return np.random.default_rng(seed).integers(-9, 9, (steps, 2)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    max_chunk=st.integers(1, 9),
    parts=st.integers(1, 3),
    rng=st.randoms(use_true_random=False),
    pause=st.booleans(),
)
def test_any_split_of_a_sequence_gives_the_same_answers(cuts, max_chunk, parts, rng, pause):
    bench = Bench(max_chunk=max_chunk)
    bench.fake.switches.parts = parts
    roster, x = bench.roster(1), data(sum(cuts))
    blocks, begin = [], 0
    for cut in cuts:
        blocks.append(bench.submit(roster, x[begin : begin + cut]))
        begin += cut
        if pause:
            bench.settle(rng)
    bench.settle(rng)
    answers = np.concatenate([result(block, grouped=False) for block in blocks])
    assert np.array_equal(answers, sums(x))
    assert roster.applied[0] == len(x)
    for step in bench.sent:
        lengths = np.frombuffer(step.lengths, "<u4") if step.lengths else np.ones(1)
        assert lengths.max() <= max_chunk


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 7), min_size=2, max_size=9),
    room=st.integers(1, 5),
    bytes_=st.integers(60, 400),
    parts=st.integers(1, 4),
    rng=st.randoms(use_true_random=False),
    busy=st.sets(st.integers(0, 8)),
)
def test_any_order_of_partial_answers_gives_the_same_result(
    *, lengths, room, bytes_, parts, rng, busy
):
    bench = Bench(max_chunk=4, queue_rows=room, max_message_bytes=bytes_ + 4096)
    bench.fake.switches.parts = parts
    roster = bench.roster(len(lengths))
    for row in busy & set(range(len(lengths))):
        bench.fake.switches.rows[roster.ids[row]] = [(pb.ROW_STATUS_BUSY, 0)]
    xs = [data(length, row) for row, length in enumerate(lengths)]
    block = bench.submit(roster, xs)
    bench.settle(rng)
    if not any(lengths):
        assert not bench.sent
    for x, y in zip(xs, result(block, grouped=True), strict=True):
        assert np.array_equal(y, sums(x).reshape(len(x), 2))
    for step in bench.sent:
        assert len(step.handles) // 8 <= room
        assert step.ByteSize() <= bytes_ + 4096


def test_chunks_that_wait_travel_as_one():
    bench = Bench()
    roster, x = bench.roster(1), data(6)
    first = bench.submit(roster, x[0])
    (step,) = bench.take()
    later = [bench.submit(roster, x[1:3]), bench.submit(roster, x[3]), bench.submit(roster, x[4:])]
    assert bench.take() == []
    bench.receive(bench.fake.run(step)[0])
    (step,) = bench.take()
    assert np.frombuffer(step.lengths, "<u4").tolist() == [5]
    assert np.frombuffer(step.first_step, "<u8").tolist() == [1]
    bench.receive(bench.fake.run(step)[0])
    answers = [result(block, grouped=False) for block in [first, *later]]
    assert [answer.shape for answer in answers] == [(2,), (2, 2), (2,), (2, 2)]
    assert np.array_equal(np.vstack(answers), sums(x))


def test_a_failure_stops_what_was_submitted_behind_it():
    bench = Bench()
    roster, x = bench.roster(1), data(6)
    bench.fake.switches.rows[roster.ids[0]] = [(0, 1), (pb.ROW_STATUS_NUMERIC_FAULT, 3)]
    bench.submit(roster, x[0])
    (step,) = bench.take()
    blocks = [
        bench.submit(roster, x[1:3]),
        bench.submit(roster, x[3:5]),
        bench.submit(roster, x[5]),
    ]
    bench.receive(bench.fake.run(step)[0])
    bench.settle()
    assert np.array_equal(result(blocks[0], grouped=False), sums(x)[1:3])
    with pytest.raises(carousel.NumericFault) as fault:
        result(blocks[1], grouped=False)
    assert np.array_equal(fault.value.answers, sums(x)[3:4])
    assert fault.value.applied == 4
    with pytest.raises(carousel.OutOfOrder, match="not run"):
        result(blocks[2], grouped=False)
    again = bench.submit(roster, x[4:])
    bench.settle()
    assert np.array_equal(result(again, grouped=False), sums(x)[4:])


def test_a_busy_row_fails_when_patience_ends():
    bench = Bench()
    roster = bench.roster(1)
    bench.fake.switches.rows[roster.ids[0]] = [(pb.ROW_STATUS_BUSY, 0)] * 1000
    bench.fake.switches.retry_after_ms = 100
    block = bench.submit(roster, [1, 1])
    bench.settle()
    with pytest.raises(carousel.Busy) as busy:
        result(block, grouped=False)
    assert busy.value.retry_after == pytest.approx(0.1)
    assert len(bench.sent) == 11  # one second of patience
    assert roster.applied[0] == 0


def test_every_message_names_version_server_and_first_step():
    bench = Bench()
    rosters = [bench.roster(1), bench.roster(3)]
    bench.submit(rosters[0], [1, 1])
    bench.submit(rosters[1], np.ones((3, 2)))
    (step,) = bench.take()
    assert (step.model, step.version, step.server_id) == ("sum", "2", bench.fake.server_id)
    assert np.frombuffer(step.first_step, "<u8").tolist() == [0, 0, 0, 0]
    assert len(step.handles) == 32


def test_a_step_that_no_message_holds_is_refused():
    bench = Bench(max_message_bytes=4096 + 39)
    block = bench.submit(bench.roster(1), [1, 1])
    bench.settle()
    with pytest.raises(carousel.InvalidInput, match="max_message_bytes"):
        result(block, grouped=False)


def test_a_barrier_waits_for_what_was_before_it_and_holds_what_comes_after():
    bench = Bench()
    roster, entered = bench.roster(1), []
    bench.submit(roster, [1, 1])
    barrier = Barrier(roster)
    barrier.done = lambda: entered.append(True)
    bench.exchange.submit(barrier)
    (step,) = bench.take()
    bench.submit(roster, [1, 1])
    assert not bench.exchange.woken()
    bench.receive(bench.fake.run(step)[0])
    for wake in bench.exchange.woken():
        wake()
    assert entered == [True]
    assert bench.take() == []
    bench.exchange.release(barrier)
    assert len(bench.take()) == 1


@pytest.mark.parametrize(
    ("ruin", "why"),
    [
        (lambda a: a.outputs[0].ClearField("data"), "bytes"),
        (lambda a: a.ClearField("outputs"), "missing"),
        (lambda a: setattr(a, "lengths", b"\x09\0\0\0"), "more steps"),
        (lambda a: setattr(a, "applied", b"\0"), "applied"),
        (lambda a: setattr(a, "rows", b"\x07\0\0\0"), "rows"),
        (lambda a: setattr(a, "rows", b"\x07\0"), "rows"),
    ],
)
def test_an_answer_that_makes_no_sense_fails_its_rows(ruin, why):
    bench = Bench()
    block = bench.submit(bench.roster(1), [[1, 1], [2, 2]])
    (step,) = bench.take()
    (answer,) = bench.fake.run(step)
    ruin(answer)
    bench.receive(answer)
    with pytest.raises(carousel.ServerError, match=why):
        result(block, grouped=False)


def test_rows_left_unanswered_are_an_error_and_unknown_answers_are_ignored():
    bench = Bench()
    block = bench.submit(bench.roster(2), np.ones((2, 2)))
    (step,) = bench.take()
    bench.receive(pb.StepResponse(id=999, done=True))
    bench.fake.switches.parts = 2
    parts = bench.fake.run(step)
    parts[0].done = True
    bench.receive(parts[0])
    with pytest.raises(carousel.GroupError) as error:
        result(block, grouped=True)
    assert [type(one) for one in error.value.errors.values()] == [carousel.ServerError]
    assert sorted(len(answer) for answer in error.value.answers) == [0, 1]


def test_attaching_tells_lost_answers_from_steps_never_run():
    bench = Bench()
    roster = bench.roster(3)
    block = bench.submit(roster, np.ones((3, 2, 2)))
    bench.take()
    bench.exchange.disconnect(bench.host)
    assert bench.exchange.astray == {roster}
    assert bench.exchange.strays(roster).tolist() == [0, 1, 2]
    gone = carousel.SessionLost("gone", session=roster.ids[2])
    held = bench.fake.sessions[roster.ids[0]]
    bench.reconnect(roster, [(held.handle, 0), (77, 1), gone])
    bench.settle()
    with pytest.raises(carousel.GroupError) as error:
        result(block, grouped=True)
    assert {row: type(one) for row, one in error.value.errors.items()} == {
        1: carousel.AnswersLost,
        2: carousel.SessionLost,
    }
    assert error.value.errors[1].steps == range(1)
    assert np.array_equal(error.value.answers[0], [[1, 1], [2, 2]])
    assert roster.applied.tolist() == [2, 1, 0]


def test_a_state_that_went_back_is_lost():
    bench = Bench()
    roster = bench.roster(1)
    bench.submit(roster, [[1, 1], [1, 1]])
    bench.settle()
    bench.exchange.disconnect(bench.host)
    block = bench.submit(roster, [1, 1])
    bench.reconnect(roster, [(5, 1)])
    with pytest.raises(carousel.SessionLost, match="lost steps 1 to 1"):
        result(block, grouped=False)


def test_an_abandoned_chunk_sends_no_more_and_stops_what_waits_behind_it():
    bench = Bench(max_chunk=2)
    roster = bench.roster(1)
    block = bench.submit(roster, np.ones((4, 2)))
    (step,) = bench.take()
    behind = bench.submit(roster, [1, 1])
    bench.exchange.abandon(block, carousel.DeadlineExceeded("late"))
    bench.receive(bench.fake.run(step)[0])
    assert bench.take() == []
    assert roster.applied[0] == 2
    with pytest.raises(carousel.OutOfOrder):
        result(behind, grouped=False)
    again = bench.submit(roster, [1, 1])
    bench.settle()
    assert np.array_equal(result(again, grouped=False), [3, 3])


def test_different_timeouts_never_share_a_message():
    bench = Bench()
    for timeout in (None, 1.0, 1.0, 2.0):
        deadline = None if timeout is None else timeout
        bench.submit(bench.roster(1), [1, 1], timeout=timeout, deadline=deadline)
    assert sorted((s.timeout_ms, len(s.handles) // 8) for s in bench.take()) == [
        (0, 1),
        (1000, 2),
        (2000, 1),
    ]


def test_a_chunk_without_steps_is_answered_at_once():
    bench = Bench()
    block = Block(bench.roster(1), Chunks({"x": data(0)}, np.array([0]), "chunk"))
    bench.exchange.submit(block)
    assert len(bench.exchange.woken()) == 1
    assert result(block, grouped=False).shape == (0, 2)
