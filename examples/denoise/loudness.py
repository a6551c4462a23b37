"""How loud a recording is where nobody speaks and where somebody does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from examples.common.wav import Samples
from examples.denoise.frames import FRAME

#: The quietest and the loudest share of a recording's frames.
SHARE: Final = 0.1
_SILENCE: Final = 1e-7


@dataclass(frozen=True)
class Loudness:
    """Root-mean-square levels in decibels below full scale, of the frames of 32 ms."""

    quietest: float
    loudest: float


def measure(samples: Samples) -> Loudness:
    """Return the mean level of the quietest and of the loudest tenth of frames of samples (N,)."""
    count = max(1, len(samples) // FRAME)
    cut = np.resize(samples, (count, FRAME)).astype(np.float64)
    levels = np.sort(20 * np.log10(np.sqrt((cut**2).mean(axis=1)) + _SILENCE))  # (count,)
    some = max(1, round(SHARE * count))
    return Loudness(float(levels[:some].mean()), float(levels[-some:].mean()))
