"""The whole server with its models as on a GPU, on the CPU provider.

`python -m tests.support.devicehost` takes the server's own flags, with `--device cpu`. The host
plays the device: its free memory is what the kernel says, its clock the processor's. So all that a
server with a GPU shows is there, and none of it is made up. With `DEFER` in the environment it puts
everything off instead, by the seed that `DEFER` gives.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from carousel_server import __main__, loading
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import ModelFile
from carousel_server.runtime.ondevice.choosing import DeviceOptions
from carousel_server.runtime.ondevice.devicemodel import DeviceModel
from carousel_server.runtime.ondevice.memory import HostMemory, Room, Stream
from tests.support.deferred import DeferredMemory


class _Event:
    """A point in a stream that was passed as soon as it was recorded."""

    time = 0.0


class MeasuredHost(HostMemory):
    """The host's memory, measured as a device's is."""

    def room(self) -> Room:
        """Return what the kernel says is available."""
        lines = (line.partition(":") for line in Path("/proc/meminfo").read_text().splitlines())
        kib = {name: int(value.split()[0]) for name, _, value in lines}
        return Room(kib["MemAvailable"] * 1024, kib["MemTotal"] * 1024)

    def event(self, *, timed: bool = False) -> _Event:
        """Return an event; all of them note the time."""
        return _Event()

    def record(self, event: _Event, stream: Stream) -> None:
        """Note the time: nothing is ever queued here."""
        event.time = time.perf_counter()

    def seconds(self, first: _Event, last: _Event) -> float:
        """Return the seconds between two events."""
        return last.time - first.time


def open_on_host(
    file: ModelFile, *, device: Device, slots: int, threads: int, options: DeviceOptions
) -> DeviceModel:
    """Return what `open_model` gives on a GPU, on the host."""
    seed = os.environ.get("DEFER")
    memory = MeasuredHost(device) if seed is None else DeferredMemory(int(seed))
    return DeviceModel(file, memory=memory, slots=slots, threads=threads, options=options)


if __name__ == "__main__":
    loading.open_model = open_on_host
    sys.exit(__main__.main())
