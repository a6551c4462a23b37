"""The client's side: sessions that begin at different times, stepped together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

import carousel_client as carousel
from examples.common.progress import counted

MODEL: Final = "demand"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Track:
    """One session: the step of the series that is its step 0, and its answers (T,) in MW.

    Answer t was given to step `start` + t, for a day later.
    """

    start: int
    answers: Array

    def since(self, step: int) -> Array:
        """Return the answers to the series' steps from `step` on."""
        return self.answers[step - self.start :]


def stream(address: str, series: Array, starts: Sequence[int], *, first: int) -> list[Track]:
    """Stream a series (N, F) through a session for each of `starts`; return what they answered.

    Those that start before `first` get their history at once. From there on half hours come
    singly, and sessions that have not begun yet wait. Raises carousel.CarouselError.
    """
    parts: list[list[Array]] = [[] for _ in starts]
    with (
        carousel.connect(address) as client,
        client.open_many(MODEL, len(starts)) as group,
    ):

        def step(rows: list[Array]) -> None:
            # Rows of different lengths, (T_i, F) each, 0 steps too -> (T_i, 1) each.
            for part, answers in zip(parts, group.step(rows), strict=True):
                part.append(np.asarray(answers)[:, 0])

        step([series[start:first] for start in starts])
        half_hours = range(first, len(series))
        for now in counted(half_hours, total=len(half_hours), told="streaming"):
            step([series[now : now + (start <= now)] for start in starts])
    return [Track(start, np.concatenate(part)) for start, part in zip(starts, parts, strict=True)]
