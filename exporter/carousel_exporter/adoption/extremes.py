"""Inputs that are now very quiet and now very loud: what is common to rows or steps shows there.

A peak that all rows are divided by, say, hides below its threshold as long as inputs are usual.
Numbers are compared loosely: rounding grows with the inputs, and what matters here is large.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from carousel_exporter.adoption.trials import Arrays
from carousel_exporter.equality import Difference

#: What steps or rows are multiplied by, one after the other: neighbours are far apart.
SCALES: Final = (1.0, 1000.0, 0.01, 30.0, 1.0, 0.1, 300.0)
#: The largest difference allowed, relative to max(1, the largest |reference| of a step or row).
_LOOSE: Final = {2: 5e-2, 4: 1e-3, 8: 1e-6}


def spread(chunk: Arrays) -> Arrays:
    """Return inputs (T, …) whose steps are multiplied by `SCALES` in turn, floats alone."""
    return {name: times(array, np.resize(SCALES, len(array))) for name, array in chunk.items()}


def times(array: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Multiply along axis 0, in the array's own type; integers and truth values stay."""
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):  # what is too much for half precision is skipped later
        wide: np.ndarray = array * scales.reshape(-1, *[1] * (array.ndim - 1))
        return np.asarray(wide, array.dtype)


def far_apart(reference: Arrays, found: Arrays) -> Difference:
    """Return the largest difference, loosely: what is not finite in the reference doesn't count."""
    every = [_difference(name, reference[name], found[name]) for name in reference]
    return max(every, key=lambda d: d.excess)


def _difference(name: str, reference: np.ndarray, found: np.ndarray) -> Difference:
    loose = _LOOSE.get(reference.dtype.itemsize, 1.0)
    if reference.dtype.kind != "f" or not np.isfinite(reference).all():
        return Difference(name, 0.0, loose)
    if not np.isfinite(found).all():
        return Difference(name, float("inf"), loose)
    a, b = reference.astype(np.float64), found.astype(np.float64)
    rest = tuple(range(1, a.ndim)) if a.ndim > 1 else None
    largest = np.abs(a).max(axis=rest, keepdims=True, initial=1.0)
    return Difference(name, float((np.abs(a - b) / largest).max(initial=0.0)), loose)
