"""How many sessions fit into the device's memory, tried and not reckoned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.ondevice.cases import FEATURES, Network
from benchmarks.ondevice.contestants import open_memory
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import read_model
from carousel_server.runtime.ondevice.choosing import DeviceOptions
from carousel_server.runtime.ondevice.devicemodel import DeviceModel

# A tensor's rows are counted in 31 bits.
_MOST = 2**31 - 2


@dataclass(frozen=True, slots=True)
class Fit:
    """A pool of so many slots, of which the last one was stepped."""

    network: Network
    state_bytes: int
    slots: int
    pool_bytes: int


def fit(path: Path, device: Device, network: Network, *, most_bytes: int) -> Fit:
    """Load the model with as many slots as 80 % of what is free hold, and step the last one.

    Args:
        path: the model's file.
        device: where to.
        network: what it is.
        most_bytes: what is free, where the device can't tell.

    """
    memory = open_memory(device, "float32")
    room = memory.room()
    free = room.free if room else most_bytes
    slots = min(int(0.8 * free) // network.state_bytes - 1, _MOST)
    options = DeviceOptions(largest=1, pool_bytes=float(free))
    model = DeviceModel(read_model(path), memory=memory, slots=slots, threads=1, options=options)
    x = np.ones((1, 1, FEATURES), np.float32)
    _, bad = model.run(np.array([slots]), np.ones(1, np.int64), {"x": x})
    if bad[0] or not model.read(np.array([slots]))["h0"].any():
        raise RuntimeError(f"the last of {slots} slots does not hold a session")
    made = Fit(network, network.state_bytes, slots, model.pool_bytes)
    model.close()
    return made
