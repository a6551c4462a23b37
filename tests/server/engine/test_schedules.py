"""Whatever comes in whatever order: each session answers as if it were alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel_server.engine import controls
from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, Reply, handles
from tests.support.overlapping import OverlappingRunner
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
_FAULTS = {CRASH: RowStatus.MODEL_ERROR, SPOIL: RowStatus.NUMERIC_FAULT}


class Solo:
    """One session as it would be alone: what happened to it, in order, checked at the end.

    Every message says where its chunk begins, as the SDK's do: so what follows a failed row is out
    of order whether it was queued with it or came later. How much of a faulty chunk was done
    depends on how it was cut; the session must then be exactly there.
    """

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.open = True
        self.next_step = 0  # where a client that knows of no failure would go on
        self._events: list[Callable[[], None]] = []
        self._state, self._applied = 0.0, 0

    def sent(self, chunk: list[float], message: Message, row: int) -> None:
        first, is_open = self.next_step, self.open
        self.next_step += len(chunk)
        self._events.append(lambda: self._check(chunk, first, is_open, message, row))

    def reset(self) -> None:
        def replay() -> None:
            self._state, self._applied = 0.0, 0

        self.next_step = 0
        self._events.append(replay)

    def attached(self, handle: int, applied: int) -> None:
        def replay() -> None:
            assert applied == self._applied

        self.handle, self.next_step = handle, applied
        self._events.append(replay)

    def replay(self) -> None:
        for event in self._events:
            event()

    def _check(
        self, chunk: list[float], first: int, is_open: bool, message: Message, row: int
    ) -> None:
        status, done = message.status[row], message.lengths[row]
        if not is_open:
            assert (status, done, message.applied[row]) == (RowStatus.STALE_HANDLE, 0, 0)
            return
        if any(math.isnan(value) for value in chunk):
            assert (status, done) == (RowStatus.INVALID, 0)
        elif first > self._applied:
            assert (status, done) == (RowStatus.OUT_OF_ORDER, 0)
        else:
            assert first == self._applied
            faults = {_FAULTS[value] for value in chunk[done:] if value in _FAULTS}
            assert status in (faults or {RowStatus.OK})
            assert not any(value in _FAULTS for value in chunk[:done])
            assert faults or done == len(chunk)
            self._step(chunk[:done], message.outputs[row])
        assert message.applied[row] == self._applied

    def _step(self, values: list[float], outputs: np.ndarray) -> None:
        for value, output in zip(values, outputs, strict=True):
            self._state = after(self._state, np.array([value, 0.0]))
            assert output.tolist() == [self._state, value]
        self._applied += len(values)


class Schedule:
    """Does the actions to an engine, and notes them with the sessions."""

    def __init__(
        self, form: tuple[bool, bool, int], slots: int, kind: type[RecurrenceRunner]
    ) -> None:
        time_axis, ragged, max_batch = form
        runner = kind(slots=slots, time_axis=time_axis, ragged=ragged, max_batch=max_batch)
        self.bench = Bench(runner, max_steps_per_tick=3, max_rows_per_tick=3)
        self.names = [f"s{number}" for number in range(_SESSIONS)]
        self.solos = [Solo(handle) for handle in self.bench.open(*self.names)]
        self.ended: list[Solo] = []
        self.messages: list[Message] = []
        self.replies: list[Reply] = []

    def send(self, rows: dict[int, list[float]], whole: bool) -> None:
        solos = [self.solos[number] for number in rows]
        chunks = [[[value, 0.0] for value in chunk] for chunk in rows.values()]
        message = self.bench.send(
            list(zip((solo.handle for solo in solos), chunks, strict=True)),
            first_step=[solo.next_step for solo in solos],
            whole=whole,
        )
        self.messages.append(message)
        for row, (solo, chunk) in enumerate(zip(solos, rows.values(), strict=True)):
            solo.sent(chunk, message, row)

    def turn(self, count: int, _: None) -> None:
        self.bench.turn(count)

    def reset(self, number: int, _: None) -> None:
        solo = self.solos[number]
        self.replies.append(self.bench.call(controls.reset(handles(solo.handle))))
        if solo.open:
            solo.reset()

    def attach(self, number: int, _: None) -> None:
        """Attach, and go on from where the session stands."""
        solo = self.solos[number]
        reply = self.bench.call(controls.Attach([self.names[number]]))
        self.bench.drain()
        if not solo.open:
            assert reply.error is not None
            return
        (handle,), (applied,) = reply.result.handles.tolist(), reply.result.applied.tolist()
        assert handle != solo.handle
        solo.attached(handle, applied)

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
        self.ended.append(solo)
        self.solos[number] = Solo(handle)

    def check(self) -> None:
        self.bench.drain()
        assert all(reply.done and reply.error is None for reply in self.replies)
        assert all(message.done for message in self.messages)
        for solo in [*self.ended, *self.solos]:
            solo.replay()


@pytest.mark.parametrize("kind", [RecurrenceRunner, OverlappingRunner])
@settings(max_examples=300, deadline=None)
@given(form=_FORMS, slots=st.sampled_from([1, 2, _SESSIONS]), actions=_ACTIONS)
def test_each_session_answers_as_if_it_were_alone(kind, form, slots, actions):
    schedule = Schedule(form, slots, kind)
    for name, what, how in actions:
        getattr(schedule, name)(what, how)
    schedule.check()
