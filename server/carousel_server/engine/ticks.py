"""Ticks, one after the other; on a device that works by itself, one ahead of the other.

While a tick is under way there, the next one can be begun with other sessions' rows, and what came
out of the one before it is committed and answered: the device need not wait for the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from carousel_server.engine import scheduler
from carousel_server.engine.columns import IntColumn
from carousel_server.engine.observer import Observer
from carousel_server.engine.residency import Residency
from carousel_server.engine.runner import Overlapping, Runner
from carousel_server.engine.table import SessionTable
from carousel_server.engine.tick import Pieces, Tick

# A tick costs as much as some hundred rows whatever it holds: it is begun beside another one when
# it has one row for two of that one's, at least. With fewer, waiting for more is faster for all.
_SHARE = 2
# Seconds between two looks at what is under way; the interpreter is the event loop's meanwhile.
_PAUSE = 20e-6


class Ticks:
    """Runs the ticks of one engine. Whoever has its turn calls it."""

    def __init__(
        self,
        table: SessionTable,
        residency: Residency,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self._table, self._residency, self._observer = table, residency, observer
        self._clock = clock
        self._runner: Runner
        self._limits: scheduler.Limits
        self._overlapping: Overlapping | None = None
        self._ahead: Tick | None = None  # that was begun in another turn
        self._began = 0.0  # when it was

    def change(self, runner: Runner, limits: scheduler.Limits) -> None:
        """Have ticks run by a runner; none is under way."""
        self._runner, self._limits = runner, limits
        self._overlapping = runner if isinstance(runner, Overlapping) else None

    @property
    def under_way(self) -> bool:
        """Whether a tick was begun and has not ended."""
        return self._ahead is not None

    def may_overlap(self, sessions: int) -> bool:
        """Return whether so many sessions, all that there are, could fill another tick beside."""
        if self._ahead is None:
            return False
        ahead = self._ahead.rows
        return self.is_worth_it(min(sessions - ahead, self._runner.slots - ahead))

    def is_worth_it(self, rows: int) -> bool:
        """Return whether a tick of so many rows is to be begun beside the one under way."""
        if self._ahead is None:
            return True
        ahead, rows = self._ahead.rows, min(rows, self._limits.rows)
        # All of their sessions need slots.
        return ahead <= _SHARE * rows and ahead + rows <= self._runner.slots

    def wait(self, until: Callable[[], bool]) -> bool:
        """Wait for the tick under way, or for something that comes before its end.

        Returns:
            Whether it came.

        """
        while self._ahead is not None and not self._ahead.done:
            if until():
                return True
            time.sleep(_PAUSE)
        return False

    def run(self, chosen: Sequence[Pieces]) -> IntColumn | None:
        """Run a tick, or begin it, and end the one that was under way.

        Returns:
            The entries of the tick that ended; None: none has yet.

        """
        tick, ahead = Tick(chosen, self._table, self._runner, self._limits), self._ahead
        if ahead is None:
            # All at once: sessions of one message must not make room for those of another.
            self._residency.bring(tick.entries)
        elif self.is_worth_it(tick.rows):
            self._residency.bring(tick.entries, beside=ahead.entries)
        else:
            return self.land()
        began = self._clock()
        if self._overlapping is None:
            return self._end(tick, began)
        tick.start(self._overlapping)
        ended = self.land() if ahead else None
        self._ahead, self._began = tick, began
        return ended

    def land(self) -> IntColumn | None:
        """End the tick that is under way; return its entries, None: none is."""
        tick, self._ahead = self._ahead, None
        return None if tick is None else self._end(tick, self._began)

    def _end(self, tick: Tick, began: float) -> IntColumn:
        report = tick.finish()
        seconds = self._clock() - began
        self._observer.ticked(
            rows=report.rows,
            steps=report.steps,
            padded_steps=report.padded_steps,
            applied=report.applied,
            seconds=seconds,
        )
        for pieces in tick.chosen:
            if pieces.cohort.timed:
                pieces.cohort.ran(pieces.rows, began, seconds)
        return tick.entries
