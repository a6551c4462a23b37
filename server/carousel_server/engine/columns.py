"""Columns, numpy arrays with an element a row, and what is done with them everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T", bound=np.generic)

#: How columns lie in messages: handles and counts of steps; lengths and row numbers.
COUNT: Final[np.dtype[np.uint64]] = np.dtype("<u8")
LENGTH: Final[np.dtype[np.uint32]] = np.dtype("<u4")

IntColumn = NDArray[np.int64]
StatusColumn = NDArray[np.uint8]
Arrays = dict[str, NDArray[np.generic]]


def join(parts: Sequence[NDArray[_T]]) -> NDArray[_T]:
    """Return arrays end to end; one alone as it is."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def spans(starts: IntColumn, lengths: IntColumn) -> IntColumn:
    """Return the indices of runs laid end to end: [5, 9], [2, 3] -> [5, 6, 9, 10, 11]."""
    total = int(lengths.sum())
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(total)


def occurrences(values: IntColumn) -> IntColumn:
    """Return how often each value stood there before: [7, 8, 7] -> [0, 0, 1]."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, len(values)])
    result = np.empty(len(values), np.int64)
    result[order] = np.arange(len(values)) - np.repeat(starts, counts)
    return result
