"""How soon the speaker is known: right answers over the time heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel_exporter.sequences import Sequences
from examples.vowels.streaming import Answers
from examples.vowels.utterances import FRAME


@dataclass(frozen=True)
class Heard:
    """Shares of right answers, (T,), after each frame; an utterance's last answer stays.

    `milliseconds` have been heard by then, and `speaking` utterances go on at least so long.
    """

    milliseconds: NDArray[np.float64]
    right: NDArray[np.float64]
    speaking: NDArray[np.int64]


def hear(answers: Answers, test: Sequences) -> Heard:
    """Compare answers (T, 9) with who speaks."""
    lengths = np.array([len(answer) for answer in answers])
    right = [_stretched(*pair, lengths.max()) for pair in zip(answers, test.labels, strict=True)]
    frames = np.arange(1, lengths.max() + 1)
    return Heard(
        milliseconds=frames * FRAME,
        right=np.mean(right, axis=0),
        speaking=(lengths[:, None] >= frames).sum(axis=0),
    )


def _stretched(answer: NDArray[np.float32], labels: NDArray[Any], length: int) -> NDArray[np.bool_]:
    """Tell where an utterance's answer is right, (length,), the last one going on."""
    right = answer.argmax(axis=1) == labels  # (T,)
    return np.pad(right, (0, length - len(right)), mode="edge")
