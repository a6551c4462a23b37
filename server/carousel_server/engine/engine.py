"""The engine of one model: takes rows and control calls in, runs ticks, gives answers out.

`submit` and `call` may come from the event loop at any time; they only put things into the inbox.
Everything else happens in `turn`, which one thread at a time may call (see `driver.py`): take in
what has arrived, carry out control calls whose turn it is, plan a tick, run it, and return the
answers. A tick takes whatever arrived while the last one ran.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from carousel_server.engine.admission import admit
from carousel_server.engine.backlog import Backlog, Volume
from carousel_server.engine.batch import Answer, StepBatch, refusal
from carousel_server.engine.calls import Calls
from carousel_server.engine.change import Change
from carousel_server.engine.checkpoints import Keeper, NoKeeper
from carousel_server.engine.cohort import Cohort
from carousel_server.engine.columns import COUNT, IntColumn
from carousel_server.engine.controls import Call, Delivery
from carousel_server.engine.cost import RunCost
from carousel_server.engine.directory import Directory
from carousel_server.engine.holding import Answers, Holding
from carousel_server.engine.inputs import find_faults
from carousel_server.engine.limits import EngineLimits
from carousel_server.engine.observer import Observer
from carousel_server.engine.runner import Runner
from carousel_server.engine.screening import screen
from carousel_server.engine.sessions import Sessions
from carousel_server.engine.solo import Solo, lone_rows
from carousel_server.engine.status import RowStatus
from carousel_server.engine.tick import rows_ready, select
from carousel_server.engine.ticks import Ticks
from carousel_server.errors import CarouselError, RunError

_RETRY_AFTER_MS = 50

_GUESS = RunCost()
_LARGE_ROWS = 256


class Engine:
    """Sessions of one model and the order of their steps."""

    def __init__(
        self,
        *,
        number: int,
        runner: Runner,
        directory: Directory,
        limits: EngineLimits,
        cost: RunCost = _GUESS,
        observer: Observer,
        keeper: Keeper | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.spec = runner.spec
        self.clock = clock
        self._keeper = keeper or NoKeeper()
        self.sessions = Sessions(
            number=number,
            runner=runner,
            directory=directory,
            observer=observer,
            half=limits.half_parked,
            policy=limits.saves,
            keeper=self._keeper,
            clock=clock,
            wall_clock=wall_clock,
        )
        self._observer = observer
        self._strict = limits.saves.strict
        self._held = Holding()
        self._limits = limits
        self._tick_limits = limits.of_ticks(runner, cost)
        self._solo = Solo(self.sessions.table, runner, self._tick_limits)
        self._ticks = Ticks(self.sessions.table, self.sessions.residency, observer, clock)
        self._ticks.change(runner, self._tick_limits)
        self._inbox: deque[StepBatch | Cohort | Call | Change] = deque()
        self._cohorts: list[Cohort] = []
        self._left = 0  # rows whose turn it was, and that the last tick had no room for
        self._calls = Calls(self.sessions)
        self._backlog = Backlog(limits.queue_rows, limits.queue_bytes)

    @property
    def queued(self) -> Volume:
        """What is taken in and not answered."""
        return self._backlog.volume

    def is_small(self, rows: int) -> bool:
        """Return whether what is queued is single steps only, and so many rows at most."""
        queued = self._backlog.volume
        return queued.rows <= rows and queued.rows == queued.steps

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._inbox or self._cohorts or self._calls)

    @property
    def settled(self) -> bool:
        """Whether it is idle, and no answer waits for the store."""
        return self.idle and self._held.empty

    def submit(self, batch: StepBatch) -> None:
        """Take rows in, or answer them BUSY where the queue has no room. Call on the event loop."""
        if why := self._backlog.add(batch):
            self._refuse(batch, why)
            return
        batch.arrived = self.clock()
        # A large message is a cohort of its own. It is made here, while a run may be under way.
        large = batch.rows >= _LARGE_ROWS
        self._inbox.append(self._cohort([batch]) if large else batch)

    def _refuse(self, batch: StepBatch, why: str) -> None:
        self._observer.rejected(RowStatus.BUSY.name, batch.rows)
        handles = np.frombuffer(batch.handles, COUNT)
        entries, _ = self.sessions.table.resolve(handles)  # it reads only: any time will do
        applied = self.sessions.table.applied[entries]
        batch.reply(
            refusal(batch, RowStatus.BUSY, why, applied=applied, retry_after_ms=_RETRY_AFTER_MS)
        )

    def call(self, call: Call) -> None:
        """Take a control call in. Call on the event loop."""
        self._inbox.append(call)

    def change(self, change: Change) -> None:
        """Have another runner take over, behind all that came before. Call on the event loop."""
        self._inbox.append(change)

    def turn(self, before_wait: Callable[[], None] = lambda: None) -> list[Delivery]:
        """Do one tick's worth of work, and return what is to be said. One thread at a time.

        Args:
            before_wait: called right before the model runs, or is waited for, if that is so.

        """
        self.sessions.table.now = self.clock()
        deliveries: list[Delivery] = []
        if self._ticks.under_way:
            before_wait()
            # Looking at the device again and again is later to see its end than waiting for it.
            may_come = self._ticks.may_overlap(self.sessions.table.open)
            if not (may_come and self._ticks.wait(until=self._next_is_worth_it)):
                self._answer(deliveries, self._ticks.land())
                return deliveries
            self.sessions.table.now = self.clock()  # it came meanwhile
        lone = [] if self._cohorts or self._calls or self._strict else lone_rows(self._inbox)
        if lone and self._step_solo(lone, before_wait, deliveries):
            return deliveries
        if not self._goes_alone_soon():
            self._take_in(deliveries)
        self._settle(deliveries)
        chosen = select(self._cohorts, self._tick_limits)
        self._left = rows_ready(self._cohorts) - sum(len(pieces.rows) for pieces in chosen)
        stepped: IntColumn | None = None
        if chosen:
            before_wait()
            stepped = self._ticks.run(chosen)
        elif self._ticks.under_way:
            # What came is of sessions that are in it, and has its turn when it has ended.
            stepped = self._ticks.land()
        self._answer(deliveries, stepped)
        return deliveries

    def finish(self) -> list[Delivery]:
        """End the tick that is under way, if one is, and return what is to be said of it."""
        deliveries: list[Delivery] = []
        self._answer(deliveries, self._ticks.land())
        return deliveries

    def _next_is_worth_it(self) -> bool:
        """Whether enough waits for another tick to begin beside the one under way.

        Calls look at sessions between ticks, when none is under way.
        """
        waiting = list(self._inbox)
        if self._calls or any(isinstance(item, Call | Change) for item in waiting):
            return False
        rows = sum(item.rows for item in waiting if isinstance(item, StepBatch | Cohort))
        return self._ticks.is_worth_it(rows + self._left)

    def _step_solo(
        self,
        lone: Sequence[StepBatch],
        before_wait: Callable[[], None],
        deliveries: list[Delivery],
    ) -> bool:
        """Run the rows that came first by themselves; False: they have to go the way of all."""
        began, checkpoints = self.sessions.table.now, self.sessions.checkpoints
        entry, batches = self._solo.find(lone)
        for batch in batches:
            if batch.delivered:
                delivered = int.from_bytes(batch.delivered, "little", signed=True)
                checkpoints.deliver_one(entry, delivered)
        answers = self._solo.step(batches, entry, before_wait) if batches else []
        if not answers:
            return False
        if checkpoints.is_due(entry):
            checkpoints.save_due(np.array([entry]))
        now, steps = self.clock(), 0
        for batch, answer in zip(batches, answers, strict=True):
            self._inbox.popleft()
            steps += batch.steps
            self._observer.queued(began - batch.arrived)
            self._observer.answered(now - batch.arrived)
            if batch.times:
                batch.times.ran(began, now - began)
            deliveries.append(partial(self._deliver, batch, answer))
        self._observer.ticked(
            rows=1, steps=steps, padded_steps=steps, applied=steps, seconds=now - began
        )
        return True

    def _goes_alone_soon(self) -> bool:
        """Whether all there is to do is one session's, so that what has come can go the short way.

        It does once the cohorts are over; taken in now it would have to wait in one of its own, and
        what comes meanwhile behind it, for as long as more comes.
        """
        if not (self._cohorts and self._inbox) or self._calls or self._strict:
            return False
        lone = lone_rows(self._inbox)
        # A row that does not say where it goes on must be queued behind one that may fail.
        if len(lone) < len(self._inbox) or not all(batch.first_step for batch in lone):
            return False
        handle = np.frombuffer(lone[0].handles, COUNT)
        return all((cohort.handles == handle).all() for cohort in self._cohorts)

    def _take_in(self, deliveries: list[Delivery]) -> None:
        """Empty the inbox: rows become a cohort, in the order of the calls between them."""
        batches: list[StepBatch] = []
        rows = 0
        for _ in range(len(self._inbox)):
            item = self._inbox.popleft()
            if isinstance(item, StepBatch):
                # A cohort is no more than a tick can run, so that it is answered as a whole.
                if batches and rows + item.rows > self._tick_limits.rows:
                    self._admit(batches)
                    batches, rows = [], 0
                batches.append(item)
                rows += item.rows
                continue
            self._admit(batches)
            batches, rows = [], 0
            if self._comes_too_early(item):
                self._inbox.appendleft(item)
                return
            if isinstance(item, Change):
                deliveries.append(partial(item.reply, self._carry_out(item)))
            elif isinstance(item, Cohort):
                self._admit_cohort(item)
            else:
                deliveries += self._calls.take_in(item)
        self._admit(batches)

    def _comes_too_early(self, item: Cohort | Call | Change) -> bool:
        """Whether something, and all behind it, has to stay in the inbox for now."""
        if isinstance(item, Change):
            return bool(self._cohorts or self._calls)  # they end with the old runner
        # A call may have come since there was seen to be none, and would see states that are
        # ahead of their sessions.
        return isinstance(item, Call) and self._ticks.under_way

    def _carry_out(self, change: Change) -> int | CarouselError:
        """Change runners between ticks; return how many sessions go on with the new one."""
        try:
            self.sessions.residency.change(change.runner)
        except Exception as error:  # noqa: BLE001 - the old runner has all states still, and serves on
            return RunError(f"the states can't be moved: {error}")
        self.spec = change.runner.spec
        self._tick_limits = self._limits.of_ticks(change.runner, change.cost)
        self._ticks.change(change.runner, self._tick_limits)
        self._solo = Solo(self.sessions.table, change.runner, self._tick_limits)
        return self.sessions.table.open

    def _admit(self, batches: list[StepBatch]) -> None:
        if batches:
            self._admit_cohort(self._cohort(batches))

    def _cohort(self, batches: list[StepBatch]) -> Cohort:
        cohort = Cohort(batches, self.spec)
        cohort.faults = list(find_faults(cohort, self.spec))
        return cohort

    def _admit_cohort(self, cohort: Cohort) -> None:
        for batch in cohort.batches:
            self._observer.queued(self.sessions.table.now - batch.arrived)
        admit(cohort, self.sessions.table)
        if cohort.delivered is not None:
            self.sessions.checkpoints.deliver(cohort.entries, cohort.delivered)
        self._cohorts.append(cohort)

    def _settle(self, deliveries: list[Delivery]) -> None:
        """Carry out the calls whose turn it is and fail the rows that can't run, till none is left.

        Each may bring the turn of another: a row behind a call, a call behind a failed row.
        """
        while True:
            results = self._calls.run()
            deliveries += results
            failed = sum(screen(cohort, self.sessions.table) for cohort in self._cohorts)
            if not (results or (failed and self._calls)):
                return

    def _answer(self, deliveries: list[Delivery], stepped: IntColumn | None) -> None:
        """Answer the rows that are over, and forget the cohorts without any other."""
        if stepped is not None and not self._strict:
            self.sessions.checkpoints.save_due(stepped)
        answers = [found for cohort in self._cohorts for found in cohort.answers()]
        if self._strict:
            answers = self._hold(answers, stepped)
        for batch, answer in answers:
            self._count(batch, answer)
            deliveries.append(partial(self._deliver, batch, answer))
        self._cohorts = [cohort for cohort in self._cohorts if len(cohort.pending)]
        if not self._cohorts:
            self.sessions.table.failed = False

    def _hold(self, answers: Answers, stepped: IntColumn | None) -> Answers:
        """Save what was stepped, and hold its answers; return the answers that may leave."""
        if stepped is not None:
            self._held.hold(answers)
            gathered = self.sessions.checkpoints.gather(stepped)
            self._keeper.keep(gathered, partial(self._held.let_go, gathered.handles))
            answers = []
        return self._held.join(answers)

    def _deliver(self, batch: StepBatch, answer: Answer) -> None:
        if answer.done:
            self._backlog.remove(batch)
        batch.reply(answer)

    def _count(self, batch: StepBatch, answer: Answer) -> None:
        if answer.done:
            self._observer.answered(self.clock() - batch.arrived)
        for code in set(answer.status) - {RowStatus.OK}:
            self._observer.rejected(RowStatus(code).name, answer.status.count(code))
