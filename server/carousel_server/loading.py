"""From model files to models that are served: read, load, prove, time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from carousel_server import log, trials
from carousel_server.engine.cost import RunCost
from carousel_server.errors import ModelFileError, RunError
from carousel_server.runtime import repository
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import ModelFile, read_model
from carousel_server.runtime.model import LoadedModel
from carousel_server.runtime.ondevice.choosing import DeviceOptions
from carousel_server.runtime.opening import OpenedModel, open_model
from carousel_server.settings import Settings
from carousel_server.versions import Stamp

# A run on the event loop keeps every other client waiting; this much goes unnoticed beside the
# 100 microseconds that one message costs.
_INLINE_SECONDS = 400e-6


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that has run, what that costs, and how many rows of it may run on the event loop."""

    entry: repository.Entry
    stamp: Stamp  # from before the file was read
    file: ModelFile
    model: OpenedModel
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
    for folder, expected in repository.slips(settings.models):
        log.get().warning("no model here", folder=str(folder), expected=expected)
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
    model = open_model(
        file,
        device=device,
        slots=settings.slots,
        threads=settings.run_threads,
        options=device_options(settings),
    )
    on_cpu = model if isinstance(model, LoadedModel) else None
    try:
        trials.prove_shapes(model)
        if on_cpu is not None:
            trials.choose_width(on_cpu)
        cost = trials.measure_cost(model)
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
        threads_from_rows=on_cpu and on_cpu.wide_from,
    )
    inline_rows = cost.rows_within(_INLINE_SECONDS) if device.kind == "cpu" else 0
    return Loaded(entry, stamp, file, model, seconds, cost, inline_rows)


def device_options(settings: Settings) -> DeviceOptions:
    """Return the device's part of the settings."""
    return DeviceOptions(
        math=settings.math,
        allow_cpu_nodes=settings.allow_cpu_nodes,
        pool_bytes=settings.pool_bytes,
        autotune=settings.autotune,
        tuning_folder=Path(settings.tuning_folder) if settings.tuning_folder else None,
    )


def _stamp(path: Path) -> Stamp:
    try:
        return Stamp.of(path)
    except OSError as error:
        raise ModelFileError(path, f"it can't be read: {error.strerror}") from error
