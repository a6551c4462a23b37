"""Models in ONNX Runtime, ready to run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import read_model
from carousel_server.runtime.model import LoadedModel
from tests.support.models import put


def load(folder: Path, made: onnx.ModelProto, *, slots: int = 8) -> LoadedModel:
    """Return a model file's content as the server loads it."""
    return LoadedModel(read_model(put(folder, made)), device=Device("cpu"), slots=slots, threads=1)


def run(
    model: LoadedModel, slots: list[int], x: np.ndarray, lengths: list[int] | None = None
) -> tuple[np.ndarray, list[bool]]:
    """Run `x` [T, B, ...] or [B, ...] on slots; return the output y and which rows are bad."""
    steps = len(x) if model.spec.time_axis else 1
    given = np.array(lengths or [steps] * len(slots), np.int32)
    outputs, bad = model.run(np.array(slots, np.int64), given, {"x": x})
    return outputs["y"], bad.tolist()


def states(model: LoadedModel, *slots: int) -> dict[str, np.ndarray]:
    """Return what lies in slots, `[N, ...]` by state."""
    return model.read(np.array(slots, np.int64))
