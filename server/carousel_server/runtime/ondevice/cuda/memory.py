"""A GPU's memory: blocks that ONNX Runtime allocates, pinned staging, streams, events."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnxruntime as ort

from carousel_server.runtime.device import Device
from carousel_server.runtime.ondevice.cuda.cudart import Cudart
from carousel_server.runtime.ondevice.gate import Gate
from carousel_server.runtime.ondevice.memory import (
    Block,
    Bytes,
    Event,
    Room,
    Stream,
    Traffic,
)


class CudaMemory:
    """One model's view of a GPU: streams of its own, on which copies and runs are queued."""

    def __init__(self, device: Device, *, math: str, cudart: Cudart) -> None:
        """Make the streams.

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
        self._streams = {stream: cudart.stream() for stream in Stream}
        self._compute = self._streams[Stream.COMPUTE]
        self._threads = threading.local()
        self._enter()
        self.name = cudart.device_name(device.index)
        # At the process's end the driver may be gone already, and takes everything with it.
        weakref.finalize(self, _close, cudart, [*self._streams.values()]).atexit = False

    def provider_options(self, *, capture: bool) -> Mapping[str, str]:
        """Return what ONNX Runtime's provider must know to work in this memory's order."""
        return {
            "device_id": str(self.device.index),
            "user_compute_stream": str(self._compute),
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

    def upload(self, source: Bytes, target: Block, stream: Stream) -> None:
        """Queue a copy of `source` to the beginning of `target`."""
        self._enter()
        if len(source):
            self._cudart.upload(source, target.address, self._streams[stream])
            self.traffic.copies_in += 1
            self.traffic.bytes_in += len(source)

    def download(self, source: Block, target: Bytes, stream: Stream) -> None:
        """Queue a copy of the beginning of `source` to `target`."""
        self._enter()
        if len(target):
            self._cudart.download(source.address, target, self._streams[stream])
            self.traffic.copies_out += 1
            self.traffic.bytes_out += len(target)

    def move(self, source: Block, target: Block) -> None:
        """Queue a copy on the GPU, of as many bytes as `source` has."""
        self._cudart.move(source.address, target.address, source.nbytes, self._compute)

    def launch(self, run: Callable[[], None]) -> None:
        """Call `run`: ONNX Runtime queues what it does on the stream that it was given."""
        self._enter()
        run()

    def event(self, *, timed: bool = False) -> Event:
        """Return an event, which ends when nobody has it any more."""
        self._enter()
        return _Event(self._cudart, timed=timed)

    def record(self, event: Event, stream: Stream) -> None:
        """Put an event behind all that is queued on a stream."""
        self._enter()
        self._cudart.record(_number(event), self._streams[stream])

    def hold(self, stream: Stream, event: Event) -> None:
        """Have what is queued on a stream from now on wait for an event that was recorded."""
        self._cudart.hold(self._streams[stream], _number(event))

    def passed(self, event: Event) -> bool:
        """Return whether an event is passed."""
        self._enter()
        return self._cudart.passed(_number(event))

    def wait(self, event: Event) -> None:
        """Return when an event is passed."""
        self._enter()
        self._cudart.wait_for(_number(event))

    def wait_for_all(self) -> None:
        """Return when everything that was queued is done."""
        self._enter()
        for stream in self._streams.values():
            self._cudart.wait(stream)

    def seconds(self, first: Event, last: Event) -> float:
        """Return the time between timed events that are passed."""
        self._enter()
        return self._cudart.seconds_between(_number(first), _number(last))

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


class _Event:
    """One of CUDA's events."""

    def __init__(self, cudart: Cudart, *, timed: bool) -> None:
        self.number = cudart.event(timed=timed)
        weakref.finalize(self, cudart.destroy_event, self.number).atexit = False


def _number(event: Event) -> int:
    assert isinstance(event, _Event)
    return event.number


def _close(cudart: Cudart, streams: Sequence[int]) -> None:
    for stream in streams:
        cudart.destroy_stream(stream)
