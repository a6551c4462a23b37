"""CUDA's runtime library, as far as copies, clocks and memory go.

ONNX Runtime's Python package has no copy that is queued and no clock on the device, and allocates
no pinned memory that numpy could write to. The library is there wherever its CUDA provider is, and
a dozen of its functions are all that is needed. Signatures and codes are those of CUDA 12 and 13
(cuda_runtime_api.h, driver_types.h).
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

# enum cudaMemcpyKind
_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3
# cudaStreamNonBlocking: not to wait for, nor hold up, the default stream.
_NON_BLOCKING = 1
# cudaEventDefault; cudaEventDisableTiming, with which it costs least to wait for
_TIMED, _UNTIMED = 0, 2
# cudaHostAllocDefault
_PINNED = 0
# cudaErrorNotReady: no error, but the answer to a question
_NOT_READY = 600

# sizeof(cudaDeviceProp) is about 1 KiB; its first member is `char name[256]`.
_PROPERTIES_BYTES, _NAME_BYTES = 16_384, 256

_NAMES = ("libcudart.so.13", "libcudart.so.12")

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudaSetDevice": (c_int,),
    "cudaMemGetInfo": (POINTER(c_size_t), POINTER(c_size_t)),
    "cudaHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cudaFreeHost": (c_void_p,),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaStreamCreateWithFlags": (POINTER(c_void_p), c_uint),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cudaEventCreateWithFlags": (POINTER(c_void_p), c_uint),
    "cudaEventDestroy": (c_void_p,),
    "cudaEventRecord": (c_void_p, c_void_p),
    "cudaEventQuery": (c_void_p,),
    "cudaEventSynchronize": (c_void_p,),
    "cudaEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
}


class CudaError(RuntimeError):
    """CUDA refused a call."""


class Cudart:
    """The library; one method a function, with CUDA's error codes made exceptions.

    Each method releases the interpreter lock while it waits. `CudaError` says what failed.
    """

    def __init__(self, library: Any = None) -> None:
        """Load the library, or take one that is loaded.

        Raises:
            CudaError: there is none.

        """
        self._library = library or _load()
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, c_int
        # CUDA 12 has two versions of it, and the name without one is the older.
        newer = "cudaGetDeviceProperties_v2"
        self._properties = newer if hasattr(self._library, newer) else newer.removesuffix("_v2")
        properties = getattr(self._library, self._properties)
        properties.argtypes, properties.restype = (c_void_p, c_int), c_int
        self._library.cudaGetErrorString.restype = c_char_p
        self._library.cudaGetErrorString.argtypes = (c_int,)

    def set_device(self, index: int) -> None:
        """Have the calling thread work on a GPU."""
        self._call("cudaSetDevice", index)

    def device_name(self, index: int) -> str:
        """Return what the maker calls a GPU."""
        # The name is what the properties begin with, in every version; there is a lot behind it.
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        self._call(self._properties, properties, c_int(index))
        return ctypes.string_at(properties, _NAME_BYTES).split(b"\0")[0].decode()

    def memory_info(self) -> tuple[int, int]:
        """Return the GPU's free and total bytes."""
        free, total = c_size_t(), c_size_t()
        self._call("cudaMemGetInfo", byref(free), byref(total))
        return free.value, total.value

    def pinned(self, nbytes: int) -> int:
        """Return the address of page-locked bytes on the host."""
        return self._new("cudaHostAlloc", c_size_t(nbytes), c_uint(_PINNED))

    def free_pinned(self, address: int) -> None:
        """Give page-locked bytes back."""
        self._call("cudaFreeHost", address)

    def upload(self, source: NDArray[np.uint8], target: int, stream: int) -> None:
        """Queue a copy of bytes to an address on the device."""
        self._call("cudaMemcpyAsync", target, source.ctypes.data, source.nbytes, _TO_DEVICE, stream)

    def download(self, source: int, target: NDArray[np.uint8], stream: int) -> None:
        """Queue a copy of bytes from an address on the device."""
        self._call("cudaMemcpyAsync", target.ctypes.data, source, target.nbytes, _TO_HOST, stream)

    def move(self, source: int, target: int, nbytes: int, stream: int) -> None:
        """Queue a copy of bytes between addresses on the device."""
        self._call("cudaMemcpyAsync", target, source, nbytes, _ON_DEVICE, stream)

    def stream(self) -> int:
        """Return a new stream."""
        return self._new("cudaStreamCreateWithFlags", c_uint(_NON_BLOCKING))

    def destroy_stream(self, stream: int) -> None:
        """End a stream."""
        self._call("cudaStreamDestroy", stream)

    def wait(self, stream: int) -> None:
        """Return when all that is queued on a stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def hold(self, stream: int, event: int) -> None:
        """Have a stream wait for an event as it was recorded last."""
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def event(self, *, timed: bool) -> int:
        """Return a new event; `timed`: it notes a time on the device."""
        return self._new("cudaEventCreateWithFlags", c_uint(_TIMED if timed else _UNTIMED))

    def destroy_event(self, event: int) -> None:
        """End an event."""
        self._call("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        """Put an event behind all that is queued on a stream."""
        self._call("cudaEventRecord", event, stream)

    def passed(self, event: int) -> bool:
        """Return whether all is done that an event stands behind."""
        code = self._library.cudaEventQuery(event)
        if code != _NOT_READY:
            self._check("cudaEventQuery", code)
        return bool(code != _NOT_READY)

    def wait_for(self, event: int) -> None:
        """Return when all is done that an event stands behind."""
        self._call("cudaEventSynchronize", event)

    def seconds_between(self, first: int, last: int) -> float:
        """Return the time between two timed events, both of which are passed."""
        milliseconds = c_float()
        self._call("cudaEventElapsedTime", byref(milliseconds), first, last)
        return milliseconds.value / 1000

    def _new(self, name: str, *arguments: Any) -> int:
        """Call a function that gives something back through its first argument."""
        made = c_void_p()
        self._call(name, byref(made), *arguments)
        if made.value is None:
            raise CudaError(f"{name} gave nothing")
        return made.value

    def _call(self, name: str, *arguments: Any) -> None:
        self._check(name, getattr(self._library, name)(*arguments))

    def _check(self, name: str, code: int) -> None:
        if code:
            text = self._library.cudaGetErrorString(code)
            raise CudaError(f"{name}: {text.decode() if text else 'unknown'} ({code})")


def _load() -> ctypes.CDLL:
    # ONNX Runtime's provider has loaded the one that it works with; its name finds it again.
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise CudaError(f"CUDA's runtime library is not there: {' or '.join(_NAMES)}")
