"""A device's memory as runs see it: blocks there, staging here, and copies between the two.

What is queued on one stream is done in its order; streams go on beside each other, but for the
events that one waits for of another. So the answers of a run travel while the next one computes.
The CPU provider has the same kind of memory, where a copy is a copy and nothing is ever queued: all
that is written for a GPU runs, and is tested, without one. `cuda/memory.py` has the GPU's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
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

    def part(self, first: int, nbytes: int) -> Block:
        """Return a part of it, from the byte `first` on."""
        return Block(self.address + first, nbytes, self.keeper)


class Stream(Enum):
    """Orders in which a device works off what it is given."""

    COMPUTE = "compute"  # runs, and what they must not overtake
    INWARD = "inward"  # inputs and states that come from the host
    OUTWARD = "outward"  # answers
    ASIDE = "aside"  # states that nobody steps meanwhile waits for: parked, or to be saved


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


class Event(Protocol):
    """A point in a stream; it is passed when all that was queued there before is done."""


class Memory(Protocol):
    """The memory of one device, for one model that runs there."""

    device: Device
    traffic: Traffic
    gate: Gate

    @property
    def name(self) -> str:
        """What kind of device it is, as its maker calls it."""

    def provider_options(self, *, capture: bool) -> Mapping[str, str]:
        """Return what ONNX Runtime's provider must know to run on `Stream.COMPUTE`."""

    def block(self, nbytes: int) -> Block:
        """Return bytes on the device; what is in them is not said."""

    def staging(self, nbytes: int) -> Bytes:
        """Return bytes on the host, `[nbytes]`, that copies to the device go fast from."""

    def upload(self, source: Bytes, target: Block, stream: Stream) -> None:
        """Queue a copy of `source` to the beginning of `target`."""

    def download(self, source: Block, target: Bytes, stream: Stream) -> None:
        """Queue a copy of the beginning of `source` to `target`."""

    def move(self, source: Block, target: Block) -> None:
        """Queue a copy on the device, of as many bytes as `source` has, on `Stream.COMPUTE`."""

    def launch(self, run: Callable[[], None]) -> None:
        """Call `run`, which queues a run on `Stream.COMPUTE`."""

    def event(self, *, timed: bool = False) -> Event:
        """Return an event, which is passed until it is recorded; `timed`: it notes the time."""

    def record(self, event: Event, stream: Stream) -> None:
        """Put an event behind all that is queued on a stream."""

    def hold(self, stream: Stream, event: Event) -> None:
        """Have what is queued on a stream from now on wait for an event that was recorded."""

    def passed(self, event: Event) -> bool:
        """Return whether an event is passed."""

    def wait(self, event: Event) -> None:
        """Return when an event is passed."""

    def wait_for_all(self) -> None:
        """Return when everything that was queued is done."""

    def seconds(self, first: Event, last: Event) -> float:
        """Return the time between timed events that are passed; 0: the device can't tell."""

    def room(self) -> Room | None:
        """Return what is free; None where it can't be told."""


class HostMemory:
    """The CPU provider's: the host's own, where everything is done when it is asked for."""

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

    def upload(self, source: Bytes, target: Block, stream: Stream) -> None:  # noqa: ARG002 - at once
        """Copy at once."""
        _check(len(source), target.nbytes)
        ctypes.memmove(target.address, source.ctypes.data, len(source))
        self.traffic.copies_in += 1
        self.traffic.bytes_in += len(source)

    def download(self, source: Block, target: Bytes, stream: Stream) -> None:  # noqa: ARG002 - at once
        """Copy at once."""
        _check(len(target), source.nbytes)
        ctypes.memmove(target.ctypes.data, source.address, len(target))
        self.traffic.copies_out += 1
        self.traffic.bytes_out += len(target)

    def move(self, source: Block, target: Block) -> None:
        """Copy at once."""
        _check(source.nbytes, target.nbytes)
        ctypes.memmove(target.address, source.address, source.nbytes)

    def launch(self, run: Callable[[], None]) -> None:
        """Run at once."""
        run()

    def event(self, *, timed: bool = False) -> Event:  # noqa: ARG002 - nothing is ever queued
        """Return what is passed always."""
        return object()

    def record(self, event: Event, stream: Stream) -> None:
        """Do nothing: nothing is queued."""

    def hold(self, stream: Stream, event: Event) -> None:
        """Do nothing."""

    def passed(self, event: Event) -> bool:  # noqa: ARG002 - nothing is queued
        """Return True."""
        return True

    def wait(self, event: Event) -> None:
        """Return."""

    def wait_for_all(self) -> None:
        """Return."""

    def seconds(self, first: Event, last: Event) -> float:  # noqa: ARG002 - timed from outside
        """Return 0: there is no device whose time it would be."""
        return 0.0

    def room(self) -> Room | None:
        """Return None: what the kernel gives, it gives when it is written to."""
        return None


def _check(nbytes: int, room: int) -> None:
    if nbytes > room:
        raise ValueError(f"{nbytes} bytes don't fit into a block of {room}")
