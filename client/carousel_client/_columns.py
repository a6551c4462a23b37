"""Columns of numbers: to and from bytes, and slices of rows that lie end to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Counts: TypeAlias = npt.NDArray[np.uint64]
Array: TypeAlias = npt.NDArray[Any]


#: One row of one step, or of none: what most calls send. Not to be written to.
ONE_STEP: Ints = np.ones(1, np.int64)
ONE_STEP.setflags(write=False)


def read(data: bytes, dtype: str, count: int) -> Array | None:
    """Return a column of `count` numbers, or None where it has another length."""
    return np.frombuffer(data, dtype) if len(data) == count * np.dtype(dtype).itemsize else None


def column(parts: Sequence[Array]) -> Array:
    """Return columns end to end, without a copy where there is one."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def starts(lengths: Ints) -> Ints:
    """Return where each row begins when all lie end to end: (N,) -> (N,)."""
    ends = np.cumsum(lengths)
    return ends - lengths


def ranges(begins: Ints, lengths: Ints) -> Ints:
    """Return the indices of the slices begins[i] : begins[i] + lengths[i], end to end.

    (N,), (N,) -> (sum(lengths),)
    """
    total = int(lengths.sum())
    return np.repeat(begins - starts(lengths), lengths) + np.arange(total)


def gather(flat: Array, begins: Ints, lengths: Ints) -> Array:
    """Return those slices of `flat` (S, ...) end to end, without a copy where they are one."""
    if _adjacent(begins, lengths):
        first = int(begins[0])
        return flat[first : first + int(lengths.sum())]
    return flat[ranges(begins, lengths)]


def scatter(flat: Array, begins: Ints, lengths: Ints, values: Array) -> None:
    """Put `values` (sum(lengths), ...) into those slices of `flat` (S, ...)."""
    if _adjacent(begins, lengths):
        first = int(begins[0])
        flat[first : first + int(lengths.sum())] = values
    else:
        flat[ranges(begins, lengths)] = values


def _adjacent(begins: Ints, lengths: Ints) -> bool:
    if len(begins) < 2:
        return len(begins) == 1
    return bool((begins[1:] == begins[:-1] + lengths[:-1]).all())
