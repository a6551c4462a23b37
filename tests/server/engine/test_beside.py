"""Ticks that overlap, while calls, copies and checkpoints come at any moment: nobody can tell.

What a client sends and calls is put in by chance in the middle of turns too, as the event loop does
it: when a tick is begun, looked at or waited for, and right after another one was decided on.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from carousel_server.engine import controls, transfers
from carousel_server.engine.change import Change
from carousel_server.engine.checkpoints import Gathered, SavePolicy
from carousel_server.engine.controls import Call
from carousel_server.engine.cost import RunCost
from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, handles
from tests.support.gathering import ByHand
from tests.support.overlapping import OverlappingRunner
from tests.support.recurrence import CRASH, SPOIL, after

_SESSIONS = 10
_FAULTS = {CRASH: RowStatus.MODEL_ERROR, SPOIL: RowStatus.NUMERIC_FAULT}


class Interrupted(OverlappingRunner):
    """Lets others in whenever it is called."""

    def __init__(self, *arguments, let_in: Callable[[], None], **options) -> None:
        super().__init__(*arguments, **options)
        self.let_in = let_in

    def start(self, slots, lengths, inputs):
        begun = super().start(slots, lengths, inputs)
        self.let_in()
        return begun

    def copy(self, slots):
        copy = super().copy(slots)
        self.let_in()
        return copy

    def maybe_work(self):
        if self._random.random() < 0.3:
            super().maybe_work()
        self.let_in()


class Session:
    """What happened to one session, in order; at the end it is what it would be alone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.handle = 0
        self.busy = True  # a call is under way, whose result says where it goes on
        self.next_step = 0
        self.stood = {(0, 0.0)}  # wherever it was: its steps and its state
        self._state, self._applied = 0.0, 0
        self._marks: dict[str, tuple[int, float]] = {}
        self._events: list[Callable[[], None]] = []

    def then(self, event: Callable[[], None]) -> None:
        self._events.append(event)

    def replay(self) -> None:
        for event in self._events:
            event()

    def sent(self, values, message, row: int, *, may_be_late: bool) -> None:
        first = self.next_step
        self.next_step += len(values)
        self.then(lambda: self._check(values, first, message, row, may_be_late))

    def put(self, applied: int, state: float) -> None:
        self._applied, self._state = applied, state
        self.stood.add((applied, state))

    def mark(self, name: str) -> None:
        self._marks[name] = (self._applied, self._state)

    def rewind(self, name: str, result) -> None:
        assert result.value.found.tolist() == [name in self._marks]
        if name in self._marks:
            self.put(*self._marks[name])
            self.is_at(result.value.gathered)

    def is_at(self, gathered: Gathered) -> None:
        assert gathered.steps.tolist() == [self._applied]
        assert gathered.states["s"].tolist() == [self._state]

    def _check(self, values, first, message, row, may_be_late) -> None:
        status, done = message.status[row], message.lengths[row]
        if first != self._applied:
            assert status in (RowStatus.OUT_OF_ORDER, RowStatus.ALREADY_APPLIED)
            assert done == 0
        elif status is RowStatus.DEADLINE:
            assert may_be_late
        else:
            faults = {_FAULTS[value] for value in values[done:] if value in _FAULTS}
            assert status in (faults or {RowStatus.OK})
            assert faults or done == len(values)
        for value, output in zip(values[:done], message.outputs[row], strict=True):
            self.put(self._applied + 1, after(self._state, np.array([value, 0.0])))
            assert output.tolist() == [self._state, value]
        assert message.applied[row] == self._applied


class World:
    """Some sessions of one engine, and whatever may happen to them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.inside = False
        self.keeper = ByHand()
        self.strict = self.random.random() < 0.3
        self.slots = self.random.choice([2, 5, 20])
        self.sends = self.random.choice([5, 20, 80])  # beside one of each other kind
        self.seed = seed
        saves = SavePolicy(steps=2, seconds=0.0, counted_only=False, strict=self.strict)
        self.bench = Bench(
            self.runner(),
            keeper=self.keeper,
            saves=saves,
            max_steps_per_tick=self.random.choice([1, 2, 100]),
            max_rows_per_tick=self.random.choice([2, 100]),
        )
        self.gathered: list[Gathered] = []
        self.messages, self.calls, self.replies = [], 0, 0
        self.ended: list[Session] = []
        self.sessions = [self.begin(f"s{number}") for number in range(_SESSIONS)]
        ticks = self.bench.engine._ticks
        wait = ticks.wait

        def wait_and_let_in(until):
            came = wait(until)
            if came and self.random.random() < 0.5:
                self.something(calls=True)
            return came

        ticks.wait = wait_and_let_in

    def runner(self) -> Interrupted:
        return Interrupted(slots=self.slots, seed=self.seed, let_in=self.let_in)

    def begin(self, name: str) -> Session:
        session = Session(name)
        self.call(controls.Open([name], {}), lambda result: self.opened(session, result))
        return session

    def opened(self, session: Session, result) -> None:
        (session.handle,), session.busy = result.handles.tolist(), False

    def let_in(self) -> None:
        """Do something in the middle of a turn, by chance."""
        if not self.inside and self.random.random() < 0.2:
            self.something()

    def something(self, *, calls: bool = False) -> None:
        self.inside = True
        whatever = [] if calls else [self.send] * self.sends
        whatever += [self.reset, self.attach, self.close, self.copy, self.mark, self.rewind]
        whatever += [self.sweep, self.save, self.acknowledge, self.acknowledge]
        self.random.choice([*whatever, self.look, self.change])()
        self.inside = False

    def call(self, control, then: Callable[[object], None] = lambda _: None) -> None:
        def reply(result) -> None:
            assert not isinstance(result, Exception), result
            self.replies += 1
            then(result)

        self.calls += 1
        self.bench.engine.call(Call(control, reply))

    def some(self) -> Session | None:
        able = [session for session in self.sessions if not session.busy]
        return self.random.choice(able) if able else None

    def send(self) -> None:
        able = [session for session in self.sessions if not session.busy]
        if not able:
            return
        chosen = self.random.sample(able, self.random.randint(1, min(3, len(able))))
        values = [self.values() for _ in chosen]
        late = self.random.random() < 0.1
        message = self.bench.send(
            [(s.handle, [[v, 0.0] for v in own]) for s, own in zip(chosen, values, strict=True)],
            first_step=[session.next_step for session in chosen],
            delivered=[0] * len(chosen) if self.random.random() < 0.3 else None,
            timeout=0.2 if late else 1e9,
            whole=self.random.random() < 0.5,
        )
        self.messages.append(message)
        for row, (session, own) in enumerate(zip(chosen, values, strict=True)):
            session.sent(own, message, row, may_be_late=late)

    def values(self) -> list[float]:
        count = self.random.choice([1, 1, 1, 3, 5])
        return [
            self.random.choice([CRASH, SPOIL])
            if self.random.random() < 0.003
            else float(self.random.randrange(1, 1000))
            for _ in range(count)
        ]

    def reset(self) -> None:
        if session := self.some():
            session.next_step = 0
            session.then(lambda: session.put(0, 0.0))
            self.call(controls.reset(handles(session.handle)))

    def attach(self) -> None:
        if session := self.some():
            session.busy = True

            def attached(result) -> None:
                (session.handle,), (step,) = result.handles.tolist(), result.applied.tolist()
                session.next_step, session.busy = step, False
                session.then(lambda: self.same(step, session._applied))

            self.call(controls.Attach([session.name]), attached)

    def same(self, one, other) -> None:
        assert one == other

    def close(self) -> None:
        if session := self.some():
            session.busy = True
            place = self.sessions.index(session)
            self.ended.append(session)

            def closed(_) -> None:
                self.sessions[place] = self.begin(session.name)

            self.call(controls.close(handles(session.handle)), closed)

    def copy(self) -> None:
        if session := self.some():
            copies: list[Gathered] = []
            session.then(lambda: session.is_at(copies[0]))
            control = transfers.copy_out(handles(session.handle))
            self.call(control, lambda acted: copies.append(acted.value))

    def mark(self) -> None:
        if session := self.some():
            name = self.random.choice("xy")
            session.then(lambda: session.mark(name))
            self.call(transfers.mark(handles(session.handle), name))

    def rewind(self) -> None:
        if session := self.some():
            name, session.busy = self.random.choice("xy"), True

            def rewound(acted) -> None:
                session.then(lambda: session.rewind(name, acted))
                session.busy = False
                if len(acted.value.gathered.ids):
                    (session.next_step,) = acted.value.gathered.steps.tolist()

            self.call(transfers.rewind_to_mark(handles(session.handle), name), rewound)

    def sweep(self) -> None:
        self.bench.clock.now += self.random.choice([0.01, 0.3, 1.0])
        self.call(controls.Park(self.random.choice([0.0, 0.5])))
        self.call(controls.Expire(1e9))

    def save(self) -> None:
        self.call(transfers.SaveLate())

    def acknowledge(self) -> None:
        if self.keeper.waiting:
            gathered, then = self.keeper.waiting.pop(0)
            self.gathered.append(gathered)
            self.call(transfers.Acknowledge(gathered, [True] * len(gathered.ids), then))

    def look(self) -> None:
        if self.gathered:
            assert self.random.choice(self.gathered).states["s"] is not None

    def change(self) -> None:
        if self.random.random() < 0.2:
            self.calls += 1
            self.bench.engine.change(Change(self.runner(), RunCost(), self.changed))

    def changed(self, result) -> None:
        assert isinstance(result, int), result
        self.replies += 1

    def check(self) -> None:
        self.inside = True
        while self.keeper.waiting or not self.bench.engine.settled:
            self.acknowledge()
            self.bench.turn()
        assert self.calls == self.replies
        assert all(message.done for message in self.messages)
        everybody = [*self.ended, *self.sessions]
        for session in everybody:
            session.replay()
        for gathered in self.gathered:
            rows = zip(gathered.ids, gathered.steps, gathered.states["s"], strict=True)
            for name, steps, state in rows:
                stood = set().union(*(s.stood for s in everybody if s.name == name))
                assert (int(steps), float(state)) in stood, "a state of another step was saved"


@pytest.mark.parametrize("seed", range(24))
def test_whatever_comes_while_ticks_overlap_is_as_if_none_did(seed):
    world = World(seed)
    for _ in range(60):
        world.something()
        world.bench.turn(world.random.randrange(3))
    world.check()
    assert world.messages
