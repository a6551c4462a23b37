"""From probabilities, one a chunk, to stretches of speech."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: How far below the threshold a probability must fall to end a stretch of speech; without a gap
#: between the two a probability that wavers around one value would cut words to pieces.
RELEASE: Final = 0.15


@dataclass(frozen=True)
class Stretch:
    """Speech from the chunk `begin` to before the chunk `end`."""

    begin: int
    end: int


def find_speech(probabilities: Iterable[float], *, threshold: float) -> list[Stretch]:
    """Return where speech is: it begins at the threshold and ends `RELEASE` below it."""
    stretches: list[Stretch] = []
    begin: int | None = None
    count = 0
    for chunk, probability in enumerate(probabilities):
        count = chunk + 1
        if begin is None and probability >= threshold:
            begin = chunk
        elif begin is not None and probability < threshold - RELEASE:
            stretches.append(Stretch(begin, chunk))
            begin = None
    if begin is not None:
        stretches.append(Stretch(begin, count))
    return stretches


def is_speech(stretches: Iterable[Stretch], count: int) -> NDArray[np.bool_]:
    """Return for each of `count` chunks whether it lies in a stretch."""
    marked = np.zeros(count, np.bool_)
    for stretch in stretches:
        marked[stretch.begin : stretch.end] = True
    return marked
