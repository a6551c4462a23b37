"""Trial runs of a model on scratch: whether its shapes are right, and how long it takes."""

from __future__ import annotations

import time

import numpy as np

from carousel_server.engine.cost import RunCost
from carousel_server.engine.runner import Runner
from carousel_server.errors import RunError
from carousel_server.runtime.model import LoadedModel

_PROVEN_ROWS = 3
_TRIAL_ROWS = 32
_TRIAL_STEPS = 16
_LEAST = 1e-8
# Packing, committing and answering, which no trial run shows.
_AROUND_A_RUN = 60e-6
_TRIALS = 5

# More threads than one are used where a run is long enough to wait for them to wake, unless they
# make it slower. How much faster they make it is not asked: on a machine that is busy while a model
# is loaded a trial would not show it.
_LONG_ENOUGH = 1e-3
_NO_SLOWER = 1.1
_WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
# What a busy machine hides in one round of trials another one may show.
_ROUNDS = 3
# A run that is longer than this shows all there is to see, and more rows would only take longer.
_LONG_SECONDS = 20e-3


def prove_shapes(model: Runner) -> None:
    """Run several shapes on scratch: declared shapes are only a promise.

    Raises:
        RunError: a run failed, or an output came in another shape than declared.

    """
    for rows in range(1, min(model.spec.max_batch or _PROVEN_ROWS, _PROVEN_ROWS) + 1):
        for steps in (1, 2) if model.spec.time_axis else (1,):
            _trial_run(model, rows, steps)


def choose_width(model: LoadedModel) -> None:
    """Find from how many rows on several threads pay, and have the model use them there.

    Looked at are single steps, from few rows to as many as there can be in a tick: where a model
    has a time axis, its rows and not its steps are what threads can share.
    """
    if not model.may_widen:
        return
    most = min(model.spec.max_batch or _WIDTHS[-1], model.slots)
    chosen: int | None = None
    for rows in (rows for rows in _WIDTHS if rows <= most):
        try:
            alone, pays = _compare(model, rows)
        except (
            RunError
        ):  # so many rows are more than the model can take; fewer may be all there are
            break
        if not pays:
            chosen = None
        elif chosen is None:
            chosen = rows
        if alone > _LONG_SECONDS:
            break
    model.wide_from = chosen
    model.settle()


def _compare(model: LoadedModel, rows: int) -> tuple[float, bool]:
    """Return the seconds of a run on one thread, and whether several pay. Raises RunError."""
    model.wide_from = None
    alone = _seconds(model, rows, 1)
    if alone < _LONG_ENOUGH:
        return alone, False
    model.wide_from = 1
    return alone, any(_seconds(model, rows, 1) <= alone * _NO_SLOWER for _ in range(_ROUNDS))


def measure_cost(model: Runner) -> RunCost:
    """Return what runs of the model cost, from a few of them on scratch."""
    one = _seconds(model, 1, 1)
    rows = min(_TRIAL_ROWS, model.spec.max_batch or _TRIAL_ROWS)
    if rows == 1:
        return RunCost(run=_AROUND_A_RUN, step=0.0, row=one)
    row = max(_seconds(model, rows, 1) - one, _LEAST) / (rows - 1)
    if not model.spec.time_axis:
        return RunCost(run=_AROUND_A_RUN, step=max(one - row, _LEAST), row=row)
    more = _seconds(model, 1, 1 + _TRIAL_STEPS) - one
    step = max(more / _TRIAL_STEPS - row, _LEAST)
    return RunCost(run=_AROUND_A_RUN + max(one - step - row, 0.0), step=step, row=row)


def _seconds(model: Runner, rows: int, steps: int) -> float:
    """Return the least time of a few runs: what else the machine does only adds to it."""
    times = []
    for _ in range(_TRIALS):
        began = time.perf_counter()
        _trial_run(model, rows, steps)
        times.append(time.perf_counter() - began)
    return min(times)


def _trial_run(model: Runner, rows: int, steps: int) -> None:
    """Run on scratch: slot 0 is nobody's."""
    lead = (steps, rows) if model.spec.time_axis else (rows,)
    inputs = {
        spec.name: np.full((*lead, *spec.shape), spec.harmless, spec.dtype)
        for spec in model.spec.inputs
    }
    model.run(np.zeros(rows, np.int64), np.full(rows, steps), inputs)
