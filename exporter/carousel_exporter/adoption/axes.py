"""Where rows and steps are in a tensor of the original file, and the way to a common order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Axes:
    """A tensor's axes: `dims` with the sizes of all but the batch and the time axis.

    What stands at those two places of `dims` is ignored. Either may be missing.
    """

    dims: tuple[int, ...]
    batch: int | None
    time: int | None = None

    @property
    def step(self) -> tuple[int, ...]:
        """The shape of one step of one row."""
        return tuple(n for a, n in enumerate(self.dims) if a not in (self.batch, self.time))

    @property
    def perm(self) -> tuple[int, ...]:
        """The original axes in canonical order: time, batch (those there are), then the others."""
        lead = [axis for axis in (self.time, self.batch) if axis is not None]
        return (*lead, *(a for a in range(len(self.dims)) if a not in lead))

    def shape(self, rows: int, steps: int) -> tuple[int, ...]:
        """Return the shape that holds so many rows and steps."""
        sizes = {self.batch: rows, self.time: steps}
        return tuple(sizes.get(axis, size) for axis, size in enumerate(self.dims))

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """Bring an array of the original's shape to (T, B, …); T or B is 1 where there is none."""
        array = array.transpose(self.perm)
        if self.batch is None:
            array = np.expand_dims(array, 0 if self.time is None else 1)
        return array if self.time is not None else array[None]

    def original(self, array: np.ndarray) -> np.ndarray:
        """Bring (T, B, …) to the original's shape; T or B must be 1 where there is no axis."""
        gone = tuple(a for a, axis in enumerate((self.time, self.batch)) if axis is None)
        array = np.squeeze(array, gone) if gone else array
        return array.transpose(np.argsort(self.perm)).copy()

    def with_size(self, axis: int, size: int) -> Axes:
        """Return the same axes with another size at one of them."""
        dims = (*self.dims[:axis], size, *self.dims[axis + 1 :])
        return replace(self, dims=dims)


def ones(dims: tuple[int, ...], *, but: int | None = None) -> list[int]:
    """Return the axes of size 1, which may hold one row, other than `but`."""
    return [axis for axis, size in enumerate(dims) if size == 1 and axis != but]
