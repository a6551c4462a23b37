"""The client's side: a session for each utterance, and a frame of each in one message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import carousel_client as carousel
from examples.common.progress import counted

MODEL: Final = "speakers"

Answers = list[NDArray[np.float32]]
"""The log-probabilities of the speakers at each frame, (T, 9), of each utterance."""


def stream(address: str, utterances: Sequence[NDArray[Any]]) -> Answers:
    """Stream utterances (T, 12) side by side, each frame as it comes. Raises CarouselError."""
    frames = [each.astype(np.float32) for each in utterances]
    longest = max(map(len, frames))
    answers: list[Answers] = [[] for _ in frames]
    with (
        carousel.connect(address) as client,
        client.open_many(MODEL, len(frames)) as group,
    ):
        for frame in counted(range(longest), total=longest, told="streaming"):
            # (1, 12) of those who still speak, (0, 12) of the others -> (1, 9) and (0, 9)
            rows = group.step([each[frame : frame + 1] for each in frames])
            for utterance, row in zip(answers, rows, strict=True):
                utterance.append(np.asarray(row))
    return [np.concatenate(each) for each in answers]
