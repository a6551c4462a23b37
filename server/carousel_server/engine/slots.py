"""Which rows of the pool are taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class SlotAllocator:
    """Hands out slots 1 to `count`; slot 0 is scratch and nobody's."""

    def __init__(self, count: int) -> None:
        self.count = count
        # A stack, filled so that low slots go first: a little-used pool stays in few pages.
        self._free = np.arange(count, 0, -1, dtype=np.int64)
        self._top = count

    @property
    def free(self) -> int:
        """How many slots can be taken."""
        return self._top

    @property
    def used(self) -> int:
        """How many slots are taken."""
        return self.count - self._top

    def take(self, count: int) -> NDArray[np.int64]:
        """Take `count` slots; there must be as many (`free`)."""
        if count > self._top:
            raise ValueError(f"{count} slots were asked for, {self._top} are free")
        self._top -= count
        return self._free[self._top : self._top + count][::-1].copy()

    def give(self, slots: NDArray[np.int64]) -> None:
        """Give slots back, each taken before and not given back since."""
        if self._top + len(slots) > self.count:
            raise ValueError("more slots were given back than taken")
        self._free[self._top : self._top + len(slots)] = slots[::-1]
        self._top += len(slots)
