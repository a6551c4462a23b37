"""A tick of one session without columns: for one that steps while nobody else does.

A numpy call costs about a microsecond however little it holds, and a tick takes some sixty of them;
for one row, plain numbers do. Chunks of the session that wait behind each other run as one: the
answers are cut from it. Only what speaks for a row is looked at here. Where anything is in doubt
nothing has happened, and the rows go the way of all others, which finds out what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

from carousel_server.engine import scheduler
from carousel_server.engine.batch import Answer, StepBatch
from carousel_server.engine.columns import Arrays
from carousel_server.engine.inputs import fits
from carousel_server.engine.runner import Runner
from carousel_server.engine.table import SessionTable
from carousel_server.errors import RunError

# Whoever asks first need not wait for more than so many that came behind.
_MOST_JOINED = 8


def lone_rows(inbox: Sequence[object]) -> list[StepBatch]:
    """Return the rows that came first, if they and all behind them are one session's; else none."""
    if not inbox or not isinstance(first := inbox[0], StepBatch) or first.rows != 1:
        return []
    if len(inbox) == 1:
        return [first]
    rows = [
        item
        for item in islice(inbox, _MOST_JOINED)
        if isinstance(item, StepBatch) and item.handles == first.handles
    ]
    return rows if len(rows) == min(len(inbox), _MOST_JOINED) else []


class Solo:
    """Steps one session of one model. Whoever has the engine's turn calls it."""

    def __init__(self, table: SessionTable, runner: Runner, limits: scheduler.Limits) -> None:
        self._table = table
        self._runner = runner
        self._time_axis = runner.spec.time_axis
        self._inputs = runner.spec.inputs
        self._outputs = [(tensor.name, tensor.step_bytes) for tensor in runner.spec.outputs]
        self._most = scheduler.piece_steps(1, limits)

    def find(self, batches: Sequence[StepBatch]) -> tuple[int, Sequence[StepBatch]]:
        """Return the entry of the batches' session, and those that may run, from the first on.

        Batches are of one row each; no batch: the first has to go another way.
        """
        table = self._table
        entry = table.entry_of(int.from_bytes(batches[0].handles, "little"))
        if entry <= 0 or table.slot.item(entry) <= 0:
            return 0, ()
        able = steps = 0
        applied = table.applied.item(entry)
        for batch in batches:
            if not self._goes_on(batch, applied + steps, steps):
                break
            steps += batch.steps
            able += 1
        return entry, batches[:able]

    def step(
        self, batches: Sequence[StepBatch], entry: int, before_wait: Callable[[], None]
    ) -> list[Answer]:
        """Run batches that were found, with nothing else of their session before them.

        No answers: nothing was done, they have to go another way.
        """
        table = self._table
        steps = batches[0].steps if len(batches) == 1 else sum(batch.steps for batch in batches)
        inputs = self._read(batches, steps)
        if inputs is None:
            return []
        before_wait()
        slot = table.slot[entry : entry + 1]
        try:
            outputs, bad = self._runner.run(slot, np.full(1, steps), inputs)
        except RunError:
            return []
        if bad[0]:
            return []
        began = table.applied.item(entry)
        table.applied[entry] = began + steps
        table.used[entry] = table.now
        return list(self._answers(batches, began, table.durable.item(entry), outputs))

    def _goes_on(self, batch: StepBatch, applied: int, before: int) -> bool:
        """Return whether a batch goes on at `applied`, `before` steps into a run."""
        first = batch.first_step
        return (
            1 <= batch.steps <= self._most - before
            and (not first or int.from_bytes(first, "little") == applied)
            and batch.deadline >= self._table.now
        )

    def _read(self, batches: Sequence[StepBatch], steps: int) -> Arrays | None:
        """Return a run's inputs, `[T, 1, ...]` or `[1, ...]`; None where a value must not run."""
        lead = (steps, 1) if self._time_axis else (1,)
        inputs: Arrays = {}
        for index, tensor in enumerate(self._inputs):
            if len(batches) == 1:
                data = batches[0].inputs[index]
            else:
                data = b"".join([batch.inputs[index] for batch in batches])
            values = np.frombuffer(data, tensor.dtype).reshape(*lead, *tensor.shape)
            if not fits(values, tensor).all():
                return None
            inputs[tensor.name] = values
        return inputs

    def _answers(
        self, batches: Sequence[StepBatch], applied: int, durable: int, outputs: Arrays
    ) -> Iterator[Answer]:
        """Yield the batches' answers: the outputs, `[T, 1, ...]` or `[1, ...]`, cut by them."""
        flat = [(outputs[name].tobytes(), size) for name, size in self._outputs]
        first = 0
        for batch in batches:
            last = first + batch.steps
            yield Answer(
                done=True,
                applied=(applied + last).to_bytes(8, "little"),
                durable=durable.to_bytes(8, "little"),
                lengths=batch.steps.to_bytes(4, "little"),
                steps=batch.steps,
                outputs=tuple([data[size * first : size * last] for data, size in flat]),
            )
            first = last
