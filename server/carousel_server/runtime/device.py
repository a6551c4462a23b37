"""Which device a model runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnxruntime as ort

from carousel_server.errors import DeviceError
from carousel_server.runtime.gate import Gate

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
        DeviceError: a GPU was asked for, and this ONNX Runtime has none.

    """
    kind, _, index = wanted.partition(":")
    if kind == "cpu":
        return Device("cpu"), "asked for"
    available = _CUDA in ort.get_available_providers()
    if kind == "auto" and not available:
        return Device("cpu"), "no GPU: this ONNX Runtime offers no CUDA"
    if not available:
        raise DeviceError(
            f"--device {wanted} was asked for, but this ONNX Runtime offers "
            f"{', '.join(ort.get_available_providers())}; install carousel-server[gpu], or use "
            "--device cpu"
        )
    return Device("cuda", int(index or 0)), "asked for" if kind == "cuda" else "a GPU is there"
