"""The picture: the waveform with its speech marked, and the streamed probability below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from carousel_exporter.files import replacing
from examples.common.wav import RATE, Samples
from examples.voice.speech import Stretch
from examples.voice.streaming import SECONDS

_WAVE = "#1f2937"
_SPEECH = "#c026d3"
_QUIET = "#94a3b8"
#: Columns of the waveform: more than the picture has dots.
_COLUMNS = 2000


def draw_picture(
    path: Path,
    samples: Samples,
    probabilities: NDArray[np.float32],
    stretches: Sequence[Stretch],
    *,
    threshold: float,
) -> None:
    """Write the picture as a PNG: samples (N,), and a probability for each chunk."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.4, 1))
    above.set_title("Speech, found while it streams: one answer every 32 ms")
    low, high, seconds = envelope(samples, _COLUMNS)
    above.fill_between(seconds, low, high, color=_WAVE, linewidth=0)
    above.set_ylabel("amplitude")
    ends = SECONDS * (1 + np.arange(len(probabilities)))  # an answer is there at its chunk's end
    below.step(ends, probabilities, color=_SPEECH, linewidth=0.9, where="pre")
    below.axhline(threshold, color=_QUIET, linewidth=0.8, linestyle="--")
    below.set_ylabel("speech (probability)")
    below.set_xlabel("time (s)")
    below.set_ylim(-0.03, 1.03)
    for panel in (above, below):
        for stretch in stretches:
            panel.axvspan(
                stretch.begin * SECONDS,
                stretch.end * SECONDS,
                color=_SPEECH,
                alpha=0.12,
                linewidth=0,
            )
        panel.grid(alpha=0.3)
        panel.margins(x=0.01)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def envelope(
    samples: Samples, columns: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Return the least and greatest sample of each column, and its time in seconds, (C,) each."""
    starts = np.unique(np.linspace(0, len(samples), columns, endpoint=False).astype(np.int64))
    low, high = (reduce.reduceat(samples, starts) for reduce in (np.minimum, np.maximum))
    return low, high, starts / RATE
