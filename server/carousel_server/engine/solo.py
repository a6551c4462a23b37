"""A tick of one row without columns: for a session that steps while nobody else does.

A numpy call costs about a microsecond however little it holds, and a tick takes some sixty of them;
for one row, plain numbers do. Only what speaks for a row is looked at here. Where anything is in
doubt nothing has happened, and the row goes the way of all others, which finds out what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from carousel_server.engine import scheduler
from carousel_server.engine.batch import Answer, StepBatch
from carousel_server.engine.columns import Arrays
from carousel_server.engine.inputs import fits
from carousel_server.engine.runner import Runner
from carousel_server.engine.table import SessionTable
from carousel_server.errors import RunError


def lone_row(inbox: Sequence[object]) -> StepBatch | None:
    """Return what came first if that is one row, and nothing behind it but more of its session."""
    if not inbox or not isinstance(first := inbox[0], StepBatch) or first.rows != 1:
        return None
    if len(inbox) == 1:
        return first
    second = inbox[1]
    same = isinstance(second, StepBatch) and second.handles == first.handles
    return first if same else None


class Solo:
    """Steps one session of one model. Whoever has the engine's turn calls it."""

    def __init__(self, table: SessionTable, runner: Runner, limits: scheduler.Limits) -> None:
        self._table = table
        self._runner = runner
        self._time_axis = runner.spec.time_axis
        self._inputs = runner.spec.inputs
        self._outputs = [tensor.name for tensor in runner.spec.outputs]
        self._most = scheduler.piece_steps(1, limits)

    def find(self, batch: StepBatch) -> int:
        """Return the entry of a batch of one row; 0 where it has to go another way."""
        entry = self._table.entry_of(int.from_bytes(batch.handles, "little"))
        return entry if self._may_run(batch, entry) else 0

    def step(self, batch: StepBatch, entry: int, before_run: Callable[[], None]) -> Answer | None:
        """Run a batch that was found, with nothing else of its session queued.

        None: nothing was done, it has to go another way.
        """
        table = self._table
        inputs = self._read(batch)
        if inputs is None:
            return None
        before_run()
        slot, steps = table.slot[entry : entry + 1], batch.steps
        try:
            outputs, bad = self._runner.run(slot, np.full(1, steps), inputs)
        except RunError:
            return None
        if bad[0]:
            return None
        applied = table.applied.item(entry) + steps
        table.applied[entry] = applied
        table.used[entry] = table.now
        return Answer(
            done=True,
            applied=applied.to_bytes(8, "little"),
            durable=table.durable.item(entry).to_bytes(8, "little"),
            lengths=steps.to_bytes(4, "little"),
            steps=steps,
            outputs=tuple([outputs[name].tobytes() for name in self._outputs]),
        )

    def _may_run(self, batch: StepBatch, entry: int) -> bool:
        """Return whether the session is there, in a slot, and where the row goes on."""
        table, first = self._table, batch.first_step
        return (
            entry > 0
            and table.slot.item(entry) > 0
            and 1 <= batch.steps <= self._most
            and (not first or int.from_bytes(first, "little") == table.applied.item(entry))
            and batch.deadline >= table.now
        )

    def _read(self, batch: StepBatch) -> Arrays | None:
        """Return a run's inputs, `[T, 1, ...]` or `[1, ...]`; None where a value must not run."""
        lead = (batch.steps, 1) if self._time_axis else (1,)
        inputs: Arrays = {}
        for tensor, data in zip(self._inputs, batch.inputs, strict=True):
            values = np.frombuffer(data, tensor.dtype).reshape(*lead, *tensor.shape)
            if not fits(values, tensor).all():
                return None
            inputs[tensor.name] = values
        return inputs
