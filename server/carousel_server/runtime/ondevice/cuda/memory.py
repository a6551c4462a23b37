"""A GPU's memory: blocks that ONNX Runtime allocates, pinned staging, one stream for everything."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Mapping

import numpy as np
import onnxruntime as ort

from carousel_server.runtime.device import Device
from carousel_server.runtime.ondevice.cuda.cudart import Cudart
from carousel_server.runtime.ondevice.gate import Gate
from carousel_server.runtime.ondevice.memory import Block, Bytes, Room, Traffic


class CudaMemory:
    """One model's view of a GPU: a stream of its own, on which copies and runs are queued."""

    def __init__(self, device: Device, *, math: str, cudart: Cudart) -> None:
        """Make the stream.

        Args:
            device: which GPU.
            math: a key of `decomposed.PRODUCTS`.
            cudart: the library.

        Raises:
            CudaError: the GPU can't be used.

        """
        self.device, self.traffic = device, Traffic()
        self.gate: Gate = device.gate
        self._math, self._cudart = math, cudart
        cudart.set_device(device.index)
        self.stream = cudart.stream()
        self._clock = (cudart.event(), cudart.event())
        self._threads = threading.local()
        self._enter()
        self.name = cudart.device_name(device.index)
        # At the process's end the driver may be gone already, and takes everything with it.
        weakref.finalize(self, _close, cudart, self.stream, self._clock).atexit = False

    def provider_options(self, *, capture: bool) -> Mapping[str, str]:
        """Return what ONNX Runtime's provider must know to work in this memory's order."""
        return {
            "device_id": str(self.device.index),
            "user_compute_stream": str(self.stream),
            "enable_cuda_graph": "1" if capture else "0",
            # Otherwise a request for more doubles what is taken: there may be no room for that.
            "arena_extend_strategy": "kSameAsRequested",
            # The provider's own default is 1, with which float32 means ten bits of mantissa.
            "use_tf32": "1" if self._math == "tf32" else "0",
        }

    def block(self, nbytes: int) -> Block:
        """Return bytes on the device; what is in them is not said."""
        value = ort.OrtValue.ortvalue_from_shape_and_type(
            [max(nbytes, 1)], np.uint8, self.device.kind, self.device.index
        )
        return Block(value.data_ptr(), nbytes, value)

    def staging(self, nbytes: int) -> Bytes:
        """Return page-locked bytes: the device fetches them while this thread goes on."""
        self._enter()
        if not nbytes:
            return np.zeros(0, np.uint8)
        address = self._cudart.pinned(nbytes)
        buffer = (ctypes.c_uint8 * nbytes).from_address(address)
        weakref.finalize(buffer, self._cudart.free_pinned, address).atexit = False
        return np.ctypeslib.as_array(buffer)

    def upload(self, source: Bytes, target: Block) -> None:
        """Queue a copy of `source` to the beginning of `target`."""
        if len(source):
            self._cudart.upload(source, target.address, self.stream)
            self.traffic.copies_in += 1
            self.traffic.bytes_in += len(source)

    def download(self, source: Block, target: Bytes) -> None:
        """Queue a copy of the beginning of `source` to `target`."""
        if len(target):
            self._cudart.download(source.address, target, self.stream)
            self.traffic.copies_out += 1
            self.traffic.bytes_out += len(target)

    def wait(self) -> None:
        """Return when everything that was queued is done."""
        self._cudart.wait(self.stream)

    def start_clock(self) -> None:
        """Queue the beginning of a measurement."""
        self._enter()
        self._cudart.record(self._clock[0], self.stream)

    def stop_clock(self) -> None:
        """Queue its end."""
        self._cudart.record(self._clock[1], self.stream)

    def clocked(self) -> float:
        """Return the seconds between the two, on the device; after `wait`."""
        with self.gate.shared():
            return self._cudart.seconds_between(*self._clock)

    def room(self) -> Room | None:
        """Return what is free on the GPU, whoever has the rest."""
        with self.gate.shared():
            self._enter()
            return Room(*self._cudart.memory_info())

    def _enter(self) -> None:
        """Have the calling thread work on this GPU: it is another one's at first."""
        if not getattr(self._threads, "entered", False):
            self._cudart.set_device(self.device.index)
            self._threads.entered = True


def _close(cudart: Cudart, stream: int, events: tuple[int, int]) -> None:
    for event in events:
        cudart.destroy_event(event)
    cudart.destroy_stream(stream)
