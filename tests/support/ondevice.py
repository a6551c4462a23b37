"""Models in a device's memory on the CPU provider: the GPU's code, without a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from carousel_server.runtime.manifest import read_model
from carousel_server.runtime.ondevice.choosing import DeviceOptions
from carousel_server.runtime.ondevice.devicemodel import DeviceModel
from carousel_server.runtime.ondevice.memory import HostMemory, Memory
from carousel_server.runtime.ondevice.tuning import Tuning
from tests.support.models import put


def open_on_device(
    folder: Path,
    made: onnx.ModelProto,
    *,
    slots: int = 8,
    memory: Memory | None = None,
    **options,
) -> DeviceModel:
    """Return a model as it would be on a GPU."""
    return DeviceModel(
        read_model(put(folder, made)),
        memory=memory or HostMemory(),
        slots=slots,
        threads=1,
        options=DeviceOptions(**options),
    )


def always_by_steps(model: DeviceModel) -> DeviceModel:
    """Have the model run pieces of any length as single steps, as a measurement could say."""
    assert model.steps is not None
    costs = dict.fromkeys(model.steps.sizes, 0.0)
    model._tuning = Tuning({"some": costs}, {(2, 1): 1.0})
    model.steps.measured(costs)
    return model


def inputs(model: DeviceModel, rng: np.random.Generator, steps: int, rows: int):
    """Return random inputs, `[T, B, ...]` or `[B, ...]`."""
    lead = (steps, rows) if model.spec.time_axis else (rows,)
    return {s.name: rng.normal(size=(*lead, *s.shape)).astype(s.dtype) for s in model.spec.inputs}
