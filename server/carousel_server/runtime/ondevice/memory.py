"""A device's memory as runs see it: blocks there, staging here, and copies between the two.

Copies and runs are queued in one order; `wait` ends when all of them are done. The CPU provider has
the same kind of memory, where a copy is a copy and nothing is ever queued: so all that is written
for a GPU runs, and is tested, without one. `cuda/memory.py` has the GPU's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carousel_server.runtime.device import Device
from carousel_server.runtime.ondevice.gate import Gate
from carousel_server.runtime.ondevice.layout import ALIGNMENT

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes on a device. `keeper` owns them: they are there as long as it is."""

    address: int
    nbytes: int
    keeper: object


@dataclass(slots=True)
class Traffic:
    """What went to and from the device since the start."""

    copies_in: int = 0
    copies_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of a device: what is free, of all that there is."""

    free: int
    total: int


class Memory(Protocol):
    """The memory of one device, for the models that run there."""

    device: Device
    traffic: Traffic
    gate: Gate

    @property
    def name(self) -> str:
        """What kind of device it is, as its maker calls it."""

    def provider_options(self, *, capture: bool) -> Mapping[str, str]:
        """Return what ONNX Runtime's provider must know to work in this memory's order."""

    def block(self, nbytes: int) -> Block:
        """Return bytes on the device; what is in them is not said."""

    def staging(self, nbytes: int) -> Bytes:
        """Return bytes on the host, `[nbytes]`, that copies to the device go fast from."""

    def upload(self, source: Bytes, target: Block) -> None:
        """Queue a copy of `source` to the beginning of `target`."""

    def download(self, source: Block, target: Bytes) -> None:
        """Queue a copy of the beginning of `source` to `target`."""

    def wait(self) -> None:
        """Return when everything that was queued is done."""

    def start_clock(self) -> None:
        """Queue the beginning of a measurement."""

    def stop_clock(self) -> None:
        """Queue its end."""

    def clocked(self) -> float:
        """Return the seconds between the two, on the device; after `wait`. 0: it can't tell."""

    def room(self) -> Room | None:
        """Return what is free; None where it can't be told."""


class HostMemory:
    """The CPU provider's: the host's own, where copies are done when they are asked for."""

    name = "cpu"

    def __init__(self, device: Device | None = None) -> None:
        self.device = device or Device("cpu")
        self.traffic = Traffic()
        self.gate = self.device.gate

    def provider_options(self, *, capture: bool) -> Mapping[str, str]:  # noqa: ARG002 - it has none
        """Return nothing: this provider has no streams and captures nothing."""
        return {}

    def block(self, nbytes: int) -> Block:
        """Return bytes that begin where a GPU's would: at a multiple of `ALIGNMENT`."""
        room = np.zeros(nbytes + ALIGNMENT, np.uint8)
        address = -(-room.ctypes.data // ALIGNMENT) * ALIGNMENT
        return Block(address, nbytes, room)

    def staging(self, nbytes: int) -> Bytes:
        """Return plain bytes."""
        return np.zeros(nbytes, np.uint8)

    def upload(self, source: Bytes, target: Block) -> None:
        """Copy at once."""
        _check(source, target)
        ctypes.memmove(target.address, source.ctypes.data, len(source))
        self.traffic.copies_in += 1
        self.traffic.bytes_in += len(source)

    def download(self, source: Block, target: Bytes) -> None:
        """Copy at once."""
        _check(target, source)
        ctypes.memmove(target.ctypes.data, source.address, len(target))
        self.traffic.copies_out += 1
        self.traffic.bytes_out += len(target)

    def wait(self) -> None:
        """Return: nothing is queued."""

    def start_clock(self) -> None:
        """Do nothing: runs are timed from outside."""

    def stop_clock(self) -> None:
        """Do nothing."""

    def clocked(self) -> float:
        """Return 0: there is no device whose time it would be."""
        return 0.0

    def room(self) -> Room | None:
        """Return None: what the kernel gives, it gives when it is written to."""
        return None


def _check(here: Bytes, there: Block) -> None:
    if len(here) > there.nbytes:
        raise ValueError(f"{len(here)} bytes don't fit into a block of {there.nbytes}")
