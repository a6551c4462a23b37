"""Where parked states stand: host memory, a row a session.

States that come from a device are put here before they have come: their rows are taken at once, and
filled when somebody asks for them, or when they are found to be there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.columns import IntColumn
from carousel_server.reading import Reading, States
from carousel_server.spec import StateSpec

# Rows are added a thirty-second at a time: what is reserved is little more than what is used.
_LEAST_GROWTH = 1024
_GROWTH = 32


class ParkingLot:
    """Rows of states, each `[rows, *shape]`; row 0 is nobody's.

    With `half`, float32 states are kept as float16, which has half the bytes and about three
    decimal digits; values beyond its range are kept as its largest.
    """

    def __init__(self, states: Sequence[StateSpec], *, half: bool) -> None:
        self._rows = {
            state.name: np.zeros((1, *state.shape), _kept_dtype(state, half=half))
            for state in states
        }
        self._dtypes = {state.name: state.dtype for state in states}
        self._free: list[int] = []
        self._size = 1  # rows that were ever used
        self._coming: deque[tuple[IntColumn, Reading]] = deque()  # rows, and what is to fill them
        self._empty: set[int] = set()  # the rows that are to be filled
        self.half = half
        self.worst_error = 0.0  # of what was ever put: |kept - given| / max(1, |given|)

    @property
    def taken(self) -> int:
        """How many rows are in use."""
        return self._size - 1 - len(self._free)

    @property
    def row_bytes(self) -> int:
        """Bytes that one session's states take here."""
        return sum(rows[0].nbytes for rows in self._rows.values())

    def put(self, count: int, reading: Reading) -> IntColumn:
        """Keep the states `[N, ...]` of `count` sessions; return their rows [N]."""
        self._settle()
        rows = self._take(count)
        # What once was to go there must not come after what goes there now.
        self._fill_before(rows)
        if reading.done:
            self._fill(rows, reading.get())
        else:
            self._coming.append((rows, reading))
            self._empty.update(rows.tolist())
        return rows

    def get(self, rows: IntColumn) -> dict[str, NDArray[np.generic]]:
        """Return the states in `rows` [N], `[N, ...]` each, in their own dtype."""
        self._fill_before(rows)
        return {
            name: kept[rows].astype(self._dtypes[name], copy=False)
            for name, kept in self._rows.items()
        }

    def give(self, rows: IntColumn) -> None:
        """Give rows back, each put before and not given back since."""
        self._free.extend(rows.tolist())

    def _settle(self) -> None:
        """Fill the rows whose states have come."""
        while self._coming and self._coming[0][1].done:
            self._fill_next()

    def _fill_before(self, rows: IntColumn) -> None:
        """See to it that none of the rows is to be filled any more; wait for states if need be."""
        while self._empty and not self._empty.isdisjoint(rows.tolist()):
            self._fill_next()

    def _fill_next(self) -> None:
        rows, reading = self._coming.popleft()
        self._fill(rows, reading.get())
        self._empty.difference_update(rows.tolist())

    def _fill(self, rows: IntColumn, states: States) -> None:
        for name, values in states.items():
            kept = self._rows[name]
            kept[rows] = self._narrow(values, kept.dtype)

    def _narrow(
        self, values: NDArray[np.generic], dtype: np.dtype[np.generic]
    ) -> NDArray[np.generic]:
        if values.dtype == dtype:
            return values
        wide = values.astype(np.float32)
        limit = float(np.finfo(np.float16).max)
        narrow = np.clip(wide, -limit, limit).astype(np.float16)
        error = np.abs(narrow.astype(np.float32) - wide) / np.maximum(1, np.abs(wide))
        self.worst_error = max(self.worst_error, float(error.max(initial=0.0)))
        return narrow

    def _take(self, count: int) -> IntColumn:
        again = min(count, len(self._free))
        rows = self._free[len(self._free) - again :]
        del self._free[len(self._free) - again :]
        fresh = count - again
        rows.extend(range(self._size, self._size + fresh))
        self._size += fresh
        self._grow()
        return np.array(rows, np.int64)

    def _grow(self) -> None:
        size = len(next(iter(self._rows.values())))
        if self._size <= size:
            return
        size = self._size + max(_LEAST_GROWTH, self._size // _GROWTH)
        for rows in self._rows.values():
            # In place: for large blocks the system moves pages, not bytes. No view of it is kept.
            rows.resize((size, *rows.shape[1:]), refcheck=False)


def _kept_dtype(state: StateSpec, *, half: bool) -> np.dtype[np.generic]:
    return np.dtype("<f2") if half and state.dtype == np.float32 else state.dtype
