"""From model files to models that are served: read, load, prove, time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from carousel_server import log
from carousel_server.errors import ModelFileError, RunError
from carousel_server.runtime import repository
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import ModelFile, read_model
from carousel_server.runtime.model import LoadedModel
from carousel_server.settings import Settings
from carousel_server.spec import TensorSpec

# A run on the event loop keeps every other client waiting; this much goes unnoticed beside the
# 100 microseconds that one message costs.
_INLINE_SECONDS = 400e-6
_PROVEN_ROWS = 3
_TRIAL_ROWS = 32
_TRIALS = 5


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that has run once, and how many steps of it may run on the event loop."""

    entry: repository.Entry
    file: ModelFile
    model: LoadedModel
    seconds: float
    inline_steps: int


def load_models(settings: Settings, device: Device) -> list[Loaded]:
    """Load every model of the repository, each version, oldest first.

    Raises:
        ModelFileError: some can't be served; the message has a sentence on each.
        DeviceError: a pool does not fit on the device.

    """
    loaded, problems = [], []
    for entry in repository.scan(settings.models):
        try:
            loaded.append(_load(entry, settings, device))
        except ModelFileError as error:
            problems.append(str(error))
    if problems:
        raise ModelFileError(
            settings.models, "not every model can be served\n  " + "\n  ".join(problems)
        )
    return loaded


def _load(entry: repository.Entry, settings: Settings, device: Device) -> Loaded:
    began = time.perf_counter()
    file = read_model(entry.path)
    model = LoadedModel(file, device=device, slots=settings.slots, threads=settings.run_threads)
    try:
        prove_shapes(model)
        inline_steps = 0 if device.kind != "cpu" else count_inline_steps(model)
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
        inline_steps=inline_steps,
    )
    return Loaded(entry, file, model, seconds, inline_steps)


def prove_shapes(model: LoadedModel) -> None:
    """Run several shapes on scratch: declared shapes are only a promise.

    Raises:
        RunError: a run failed, or an output came in another shape than declared.

    """
    for rows in range(1, min(model.spec.max_batch or _PROVEN_ROWS, _PROVEN_ROWS) + 1):
        for steps in (1, 2) if model.spec.time_axis else (1,):
            _trial_run(model, rows, steps)


def count_inline_steps(model: LoadedModel) -> int:
    """Return how many single steps of different sessions fit into the event loop's patience."""
    one = _seconds(lambda: _trial_run(model, 1, 1))
    if model.spec.max_batch == 1:
        return int(_INLINE_SECONDS / one)
    rows = min(_TRIAL_ROWS, model.spec.max_batch or _TRIAL_ROWS)
    many = _seconds(lambda: _trial_run(model, rows, 1))
    each = max((many - one) / (rows - 1), 1e-9)
    return max(0, int((_INLINE_SECONDS - one) / each) + 1) if one < _INLINE_SECONDS else 0


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
