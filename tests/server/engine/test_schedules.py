"""Whatever comes in whatever order: each session answers as if it were alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel_server.engine import controls
from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, Reply, handles
from tests.support.recurrence import CRASH, SPOIL, RecurrenceRunner, after
from tests.support.steps import Message

_SESSIONS = 4
_VALUES = st.sampled_from([0.0, 1.0, 5.0, 900.0] * 3 + [CRASH, SPOIL, math.nan])
_CHUNKS = st.lists(_VALUES, min_size=1, max_size=7)
_ROWS = st.dictionaries(st.integers(0, _SESSIONS - 1), _CHUNKS, min_size=1, max_size=_SESSIONS)
_SEND = st.tuples(st.just("send"), _ROWS, st.booleans())
_ONE = st.tuples(
    st.sampled_from(["reset", "attach", "close"]), st.integers(0, _SESSIONS - 1), st.none()
)
_TURN = st.tuples(st.just("turn"), st.integers(1, 3), st.none())
_ACTIONS = st.lists(st.one_of(_SEND, _SEND, _ONE, _TURN), min_size=3, max_size=25)
_FORMS = st.sampled_from([(True, True, 0), (True, False, 0), (True, True, 2), (False, False, 1)])


@dataclass
class Expected:
    """What one row must answer."""

    status: RowStatus
    applied: int
    outputs: list[tuple[float, float]] = field(default_factory=list)


class Solo:
    """One session as it would be alone, in plain Python: its rows and calls in their order.

    Every message says where its chunk begins, as the SDK's do: so what follows a failed row is out
    of order whether it was queued with it or came later.
    """

    def __init__(self, handle: int, steps_a_piece: int) -> None:
        self.handle = handle
        self.piece = steps_a_piece
        self.state, self.applied, self.open = 0.0, 0, True

    def step(self, chunk: list[float], first_step: int) -> Expected:
        if not self.open:
            return Expected(RowStatus.STALE_HANDLE, 0)
        if any(math.isnan(value) for value in chunk):
            return Expected(RowStatus.INVALID, self.applied)
        if first_step != self.applied:
            ahead = first_step > self.applied
            status = RowStatus.OUT_OF_ORDER if ahead else RowStatus.ALREADY_APPLIED
            return Expected(status, self.applied)
        outputs: list[tuple[float, float]] = []
        for begin in range(0, len(chunk), self.piece):
            piece = chunk[begin : begin + self.piece]
            for value, status in (
                (CRASH, RowStatus.MODEL_ERROR),
                (SPOIL, RowStatus.NUMERIC_FAULT),
            ):
                if value in piece:
                    return Expected(status, self.applied, outputs)
            for value in piece:
                self.state = after(self.state, np.array([value, 0.0]))
                outputs.append((self.state, value))
            self.applied += len(piece)
        return Expected(RowStatus.OK, self.applied, outputs)


class Schedule:
    """Puts actions into an engine and into the sessions' solo runs."""

    def __init__(self, form: tuple[bool, bool, int]) -> None:
        time_axis, ragged, max_batch = form
        runner = RecurrenceRunner(
            slots=_SESSIONS, time_axis=time_axis, ragged=ragged, max_batch=max_batch
        )
        self.bench = Bench(runner, max_steps_per_tick=3, max_rows_per_tick=3)
        self.piece = 3 if time_axis else 1
        self.names = [f"s{number}" for number in range(_SESSIONS)]
        self.solos = [Solo(handle, self.piece) for handle in self.bench.open(*self.names)]
        self.messages: list[tuple[Message, list[Expected]]] = []
        self.replies: list[Reply] = []
        # Where a client that knows of no failure would go on.
        self.next_step = [0] * _SESSIONS

    def send(self, rows: dict[int, list[float]], whole: bool) -> None:
        first = [self.next_step[number] for number in rows]
        expected = []
        for number, chunk in rows.items():
            expected.append(self.solos[number].step(chunk, self.next_step[number]))
            self.next_step[number] += len(chunk)
        chunks = [
            (self.solos[number].handle, [[value, 0.0] for value in chunk])
            for number, chunk in rows.items()
        ]
        message = self.bench.send(chunks, first_step=first, whole=whole)
        self.messages.append((message, expected))

    def turn(self, count: int, _: None) -> None:
        self.bench.turn(count)

    def reset(self, number: int, _: None) -> None:
        solo = self.solos[number]
        self.replies.append(self.bench.call(controls.reset(handles(solo.handle))))
        if solo.open:
            solo.state, solo.applied, self.next_step[number] = 0.0, 0, 0

    def attach(self, number: int, _: None) -> None:
        """Attach when all is done, and go on from where the session stands."""
        reply = self.bench.call(controls.Attach([self.names[number]]))
        self.bench.drain()
        solo = self.solos[number]
        if not solo.open:
            assert reply.error is not None
            return
        assert reply.result.applied.tolist() == [solo.applied]
        (solo.handle,) = reply.result.handles.tolist()
        self.next_step[number] = solo.applied

    def close(self, number: int, _: None) -> None:
        """Close, or open again what is closed, under another handle."""
        solo = self.solos[number]
        if solo.open:
            self.replies.append(self.bench.call(controls.close(handles(solo.handle))))
            solo.open = False
            return
        self.bench.drain()
        (handle,) = self.bench.open(self.names[number])
        assert handle != solo.handle
        self.solos[number] = Solo(handle, self.piece)
        self.next_step[number] = 0

    def check(self) -> None:
        self.bench.drain()
        assert all(reply.done and reply.error is None for reply in self.replies)
        for message, expected in self.messages:
            assert message.done
            for row, want in enumerate(expected):
                assert message.status[row] is want.status
                assert message.applied[row] == want.applied
                assert message.lengths[row] == len(want.outputs)
                assert [tuple(value) for value in message.outputs[row].tolist()] == want.outputs


@settings(max_examples=250, deadline=None)
@given(form=_FORMS, actions=_ACTIONS)
def test_each_session_answers_as_if_it_were_alone(form, actions):
    schedule = Schedule(form)
    for name, what, how in actions:
        getattr(schedule, name)(what, how)
    schedule.check()
