"""The picture: what came and what was made of it, as spectrograms on one scale."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from carousel_exporter.files import replacing
from examples.common.wav import RATE, Samples
from examples.denoise.frames import FRAME, SHIFT

#: Decibels shown below the loudest parts.
_RANGE: Final = 60.0
#: The share of the points that is louder than what counts as loudest: vowels, and hum.
_PEAKS: Final = 0.02
#: In steps of 3 dB: finer ones can't be told apart, and would make noise large to store.
_COLOURS: Final = colormaps["magma"].resampled(20)
_SILENCE: Final = 1e-7


def draw_picture(path: Path, noisy: Samples, denoised: Samples) -> None:
    """Write the spectrograms of two recordings, (N,) each, as a PNG."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    levels = [spectrogram(samples) for samples in (noisy, denoised)]
    loudest = float(np.quantile(levels[0], 1 - _PEAKS))
    extent = (0.0, len(noisy) / RATE, 0.0, RATE / 2000)
    for panel, level, title in zip(panels, levels, ("as it came", "streamed"), strict=True):
        image = panel.imshow(
            level - loudest,
            origin="lower",
            aspect="auto",
            extent=extent,
            cmap=_COLOURS,
            interpolation="nearest",
            vmin=-_RANGE,
            vmax=0.0,
        )
        panel.set_title(title, loc="left", fontsize="medium")
        panel.set_ylabel("frequency (kHz)")
    panels[-1].set_xlabel("time (s)")
    figure.colorbar(image, ax=list(panels), label="level (dB of the loudest)")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


def spectrogram(samples: Samples) -> NDArray[np.float64]:
    """Return levels in decibels, (257, frames): windowed frames of 512 samples, 128 apart."""
    padded = np.pad(samples, (0, max(0, FRAME - len(samples))))
    cut = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::SHIFT]  # (frames, 512)
    spectra = np.abs(np.fft.rfft(cut * np.hanning(FRAME), axis=1))
    return np.asarray(20 * np.log10(spectra.T + _SILENCE))
