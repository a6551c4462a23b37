"""Where the tensors of a run lie in a block of bytes, so that one copy moves them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: What cuBLAS and cuDNN want their operands aligned to for their fastest kernels, and more.
ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Port:
    """One tensor that goes into a run or comes out of it."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that its values take."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Layout:
    """Ports, and where each begins in a block of `nbytes` bytes."""

    ports: tuple[Port, ...]
    offsets: tuple[int, ...]
    nbytes: int

    @classmethod
    def of(cls, ports: Sequence[Port]) -> Layout:
        """Lay ports out one behind the other, each at a multiple of `ALIGNMENT`."""
        offsets, end = [], 0
        for port in ports:
            offsets.append(end)
            end += -(-port.nbytes // ALIGNMENT) * ALIGNMENT
        return cls(tuple(ports), tuple(offsets), end)

    def views(self, block: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        """Return each port's values in a block `[nbytes]`, by name, without a copy."""
        return {
            port.name: block[begin : begin + port.nbytes].view(port.dtype).reshape(port.shape)
            for port, begin in zip(self.ports, self.offsets, strict=True)
        }
