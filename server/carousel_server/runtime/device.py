"""Which device a model runs on."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnxruntime as ort

from carousel_server.errors import DeviceError
from carousel_server.runtime.ondevice.cuda.cudart import CudaError, Cudart
from carousel_server.runtime.ondevice.gate import Gate

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class Device:
    """A place to run: `kind` is "cpu" or "cuda", `index` the GPU's number.

    All models that run there share its gate.
    """

    kind: str
    index: int = 0
    gate: Gate = field(default_factory=Gate, compare=False, repr=False)

    def providers(self, options: Mapping[str, str] | None = None) -> list[Any]:
        """Return ONNX Runtime's execution providers, the wanted one first, with its options."""
        if self.kind == "cuda":
            return [(_CUDA, {"device_id": str(self.index), **(options or {})}), _CPU]
        return [_CPU]

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"{self.kind}:{self.index}"


def choose_device(wanted: str) -> tuple[Device, str]:
    """Return the device for "auto", "cpu", "cuda" or "cuda:N", and why it was chosen, in words.

    Raises:
        DeviceError: a GPU was asked for, and there is none that can be used.

    """
    kind, _, number = wanted.partition(":")
    if kind == "cpu":
        return Device("cpu"), "asked for"
    offered = ort.get_available_providers()
    if _CUDA not in offered:
        if kind == "auto":
            return Device("cpu"), "no GPU: this ONNX Runtime offers no CUDA"
        raise DeviceError(
            f"--device {wanted} was asked for, but this ONNX Runtime offers "
            f"{', '.join(offered)}; install carousel-server[gpu], or use --device cpu"
        )
    index = int(number or 0)
    if trouble := _trouble(index):
        if kind == "auto":
            return Device("cpu"), f"no GPU: {trouble}"
        raise DeviceError(f"--device {wanted} was asked for, but it can't be used: {trouble}")
    return Device("cuda", index), "asked for" if kind == "cuda" else "a GPU is there"


def _trouble(index: int) -> str:
    """Return why a GPU can't be used; "" if it can."""
    # CUDA's libraries may be Python packages, which the loader does not look into. What this has to
    # say goes to standard output, which is not its to write to; what is missing shows below.
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()
    try:
        cudart = Cudart()
        cudart.set_device(index)
        cudart.memory_info()
    except CudaError as error:
        return str(error)
    return ""
