"""The batch sizes that captured steps exist for, and how any number of rows is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

#: The largest batch that is captured: as many rows as the engine puts into a tick.
LARGEST = 1024

# A guess, where nothing was measured: a replay costs as much as so many rows.
_LAUNCH_ROWS = 256.0


def bucket_sizes(slots: int, max_batch: int, largest: int = LARGEST) -> tuple[int, ...]:
    """Return 1, 2, 4 … up to the first that holds as many rows as a run can have.

    Args:
        slots: how many sessions there can be.
        max_batch: how many rows the model takes; 0: any number.
        largest: where to stop whatever they say.

    """
    most = min(slots, max_batch or slots, largest)
    sizes = [1]
    while sizes[-1] < most:
        sizes.append(sizes[-1] * 2)
    if max_batch:
        sizes[-1] = min(sizes[-1], max_batch)
    return tuple(sizes)


def guessed(sizes: Sequence[int]) -> dict[int, float]:
    """Return what runs of buckets cost where nobody has measured it, in some unit."""
    return {size: _LAUNCH_ROWS + size for size in sizes}


def cover(rows: int, costs: Mapping[int, float]) -> tuple[int, ...]:
    """Return the buckets, largest first, that together hold so many rows and cost least.

    Rows that don't fill their bucket are padding: either one larger bucket is taken, or the largest
    that is full, and the rest in others.
    """
    sizes = sorted(costs)
    full = (rows // sizes[-1]) * (sizes[-1],)
    return full + _least(rows % sizes[-1], sizes, costs)


def _least(rows: int, sizes: Sequence[int], costs: Mapping[int, float]) -> tuple[int, ...]:
    if not rows:
        return ()
    whole = next(size for size in sizes if size >= rows)
    below = [size for size in sizes if size <= rows]
    if whole == rows or not below:
        return (whole,)
    parts = (below[-1], *_least(rows - below[-1], sizes, costs))
    return parts if sum(costs[size] for size in parts) < costs[whole] else (whole,)


def active_rows(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many rows still have a step at each time, `[T]`, from lengths `[B]`."""
    counts = np.bincount(lengths, minlength=int(lengths.max()) + 1)
    ended = np.cumsum(counts[:-1])  # (T,) rows that were done before the step
    active: NDArray[np.int64] = len(lengths) - ended
    return active
