"""Frames of sound, their spectra, and back: what stands before, between and behind the models.

A frame is 512 samples (32 ms), and each begins 128 samples (8 ms) behind the one before. The two
networks were trained for exactly this: no window, and the frames of an answer added up as they
overlap (Westhausen and Meyer, "Dual-Signal Transformation LSTM Network for Real-Time Noise
Suppression", 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from examples.common.wav import Samples

FRAME: Final = 512
SHIFT: Final = 128
#: Frequencies of a frame's spectrum, from 0 to half the sampling rate.
BINS: Final = FRAME // 2 + 1
#: What the first frame looks back at, which is silence.
_BEFORE: Final = FRAME - SHIFT

Spectrum = NDArray[np.float32]


def count_frames(samples: int) -> int:
    """Return how many frames it takes until each of so many samples has been in four of them."""
    return -(-(samples + _BEFORE) // SHIFT)


def frames(samples: Samples) -> Iterator[Samples]:
    """Yield the frames (512,) of samples (N,), the last ones filled up with silence."""
    count = count_frames(len(samples))
    behind = (count - 1) * SHIFT + FRAME - _BEFORE - len(samples)
    padded = np.pad(samples, (_BEFORE, behind))
    for number in range(count):
        yield padded[number * SHIFT : number * SHIFT + FRAME]


def analyse(frame: Samples) -> tuple[Spectrum, NDArray[np.float64]]:
    """Return a frame's magnitudes and phases (radians), (257,) each."""
    spectrum = np.fft.rfft(frame)
    return np.abs(spectrum).astype(np.float32), np.angle(spectrum)


def synthesise(magnitude: Spectrum, phase: NDArray[np.float64]) -> Samples:
    """Return the frame (512,) of magnitudes and phases, (257,) each."""
    return np.fft.irfft(magnitude * np.exp(1j * phase), FRAME).astype(np.float32)


def overlap_add(answers: Iterable[Samples], samples: int) -> Samples:
    """Add up frames (512,) where they overlap, and return the `samples` (N,) that they stand for.

    Four frames lie over each sample, so frames that are a quarter of the sound give the sound.
    """
    total = np.zeros((count_frames(samples) - 1) * SHIFT + FRAME, np.float32)
    for number, frame in enumerate(answers):
        total[number * SHIFT : number * SHIFT + FRAME] += frame
    return total[_BEFORE : _BEFORE + samples]
