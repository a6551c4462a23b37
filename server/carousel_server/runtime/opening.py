"""From a model file to a model on a device."""

from __future__ import annotations

from typing import Protocol

from carousel_server.engine.runner import Runner
from carousel_server.errors import DeviceError
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import ModelFile
from carousel_server.runtime.model import LoadedModel
from carousel_server.runtime.ondevice.budget import check_pool
from carousel_server.runtime.ondevice.choosing import DeviceOptions
from carousel_server.runtime.ondevice.cuda.cudart import CudaError, Cudart
from carousel_server.runtime.ondevice.cuda.memory import CudaMemory
from carousel_server.runtime.ondevice.devicemodel import DeviceModel


class OpenedModel(Runner, Protocol):
    """A model that can be run, until it is closed."""

    def close(self) -> None:
        """Give its memory back at once, whoever still knows of it; it can't be used any more."""


def open_model(
    file: ModelFile, *, device: Device, slots: int, threads: int, options: DeviceOptions
) -> OpenedModel:
    """Load a model onto a device, with `slots` sessions' worth of state.

    Raises:
        ModelFileError: it can't be served there.
        DeviceError: the device can't be used, or the pool does not fit.

    """
    if device.kind == "cpu":
        share = options.pool_bytes
        check_pool(file.spec.states, slots, pool_bytes=share, room=None, device=str(device))
        return LoadedModel(file, device=device, slots=slots, threads=threads)
    try:
        with device.gate.shared():
            memory = CudaMemory(device, math=options.math, cudart=Cudart())
    except CudaError as error:
        raise DeviceError(f"{device} can't be used: {error}") from error
    return DeviceModel(file, memory=memory, slots=slots, threads=threads, options=options)
