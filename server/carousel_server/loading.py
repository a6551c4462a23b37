"""From model files to models that are served: read, load, prove, time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carousel_server import log
from carousel_server.engine.cost import RunCost
from carousel_server.errors import ModelFileError, RunError
from carousel_server.runtime import repository
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import ModelFile, read_model
from carousel_server.runtime.model import LoadedModel
from carousel_server.settings import Settings
from carousel_server.spec import TensorSpec
from carousel_server.versions import Stamp

# A run on the event loop keeps every other client waiting; this much goes unnoticed beside the
# 100 microseconds that one message costs.
_INLINE_SECONDS = 400e-6
_PROVEN_ROWS = 3
_TRIAL_ROWS = 32
_TRIAL_STEPS = 16
_LEAST = 1e-8
# Packing, committing and answering, which no trial run shows.
_AROUND_A_RUN = 60e-6
_TRIALS = 5


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that has run, what that costs, and how many rows of it may run on the event loop."""

    entry: repository.Entry
    stamp: Stamp  # from before the file was read
    file: ModelFile
    model: LoadedModel
    seconds: float
    cost: RunCost
    inline_rows: int


def load_models(settings: Settings, device: Device) -> list[Loaded]:
    """Load every model of the repository, each version, oldest first.

    Raises:
        ModelFileError: some can't be served; the message has a sentence on each.
        DeviceError: a pool does not fit on the device.

    """
    loaded, problems = [], []
    for entry in repository.scan(settings.models):
        try:
            loaded.append(load_model(entry, settings, device))
        except ModelFileError as error:
            problems.append(str(error))
    for folder in repository.without_model(settings.models):
        log.get().warning("no model here", folder=str(folder), expected=repository.FILE_NAME)
    if problems:
        raise ModelFileError(
            settings.models, "not every model can be served\n  " + "\n  ".join(problems)
        )
    return loaded


def load_model(entry: repository.Entry, settings: Settings, device: Device) -> Loaded:
    """Load one version of one model, and run it on scratch.

    Raises:
        ModelFileError: it can't be served.
        DeviceError: its pool does not fit on the device.

    """
    began = time.perf_counter()
    stamp = _stamp(entry.path)
    file = read_model(entry.path)
    model = LoadedModel(file, device=device, slots=settings.slots, threads=settings.run_threads)
    try:
        prove_shapes(model)
        cost = measure_cost(model)
    except RunError as error:
        raise ModelFileError(entry.path, f"it fails on a trial run: {error}") from error
    seconds = time.perf_counter() - began
    log.get().info(
        "model loaded",
        model=entry.name,
        version=entry.version,
        seconds=round(seconds, 3),
        state_bytes=model.spec.state_bytes,
        slots=settings.slots,
        run_microseconds=round(cost.seconds(1, 1) * 1e6),
    )
    inline_rows = cost.rows_within(_INLINE_SECONDS) if device.kind == "cpu" else 0
    return Loaded(entry, stamp, file, model, seconds, cost, inline_rows)


def _stamp(path: Path) -> Stamp:
    try:
        return Stamp.of(path)
    except OSError as error:
        raise ModelFileError(path, f"it can't be read: {error.strerror}") from error


def prove_shapes(model: LoadedModel) -> None:
    """Run several shapes on scratch: declared shapes are only a promise.

    Raises:
        RunError: a run failed, or an output came in another shape than declared.

    """
    for rows in range(1, min(model.spec.max_batch or _PROVEN_ROWS, _PROVEN_ROWS) + 1):
        for steps in (1, 2) if model.spec.time_axis else (1,):
            _trial_run(model, rows, steps)


def measure_cost(model: LoadedModel) -> RunCost:
    """Return what runs of the model cost, from a few of them on scratch."""
    one = _seconds(lambda: _trial_run(model, 1, 1))
    rows = min(_TRIAL_ROWS, model.spec.max_batch or _TRIAL_ROWS)
    if rows == 1:
        return RunCost(run=_AROUND_A_RUN, step=0.0, row=one)
    row = max(_seconds(lambda: _trial_run(model, rows, 1)) - one, _LEAST) / (rows - 1)
    if not model.spec.time_axis:
        return RunCost(run=_AROUND_A_RUN, step=max(one - row, _LEAST), row=row)
    more = _seconds(lambda: _trial_run(model, 1, 1 + _TRIAL_STEPS)) - one
    step = max(more / _TRIAL_STEPS - row, _LEAST)
    return RunCost(run=_AROUND_A_RUN + max(one - step - row, 0.0), step=step, row=row)


def _seconds(run: Callable[[], None]) -> float:
    """Return the least time of a few runs: what else the machine does only adds to it."""
    times = []
    for _ in range(_TRIALS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def _trial_run(model: LoadedModel, rows: int, steps: int) -> None:
    """Run on scratch: slot 0 is nobody's."""
    lead = (steps, rows) if model.spec.time_axis else (rows,)
    inputs = {
        spec.name: np.full((*lead, *spec.shape), _harmless(spec), spec.dtype)
        for spec in model.spec.inputs
    }
    model.run(np.zeros(rows, np.int64), np.full(rows, steps), inputs)


def _harmless(spec: TensorSpec) -> int:
    """Return 0, or the value next to it that the input may hold."""
    low = 0 if spec.minimum is None else max(0, spec.minimum)
    return low if spec.maximum is None else min(low, spec.maximum)
