"""How long measurements may take, and what one of them will take at most."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Budget:
    """Seconds that may be spent from now on."""

    def __init__(self, seconds: float, *, clock: Clock = time.monotonic) -> None:
        """Begin to spend."""
        self._seconds, self._clock, self._began = seconds, clock, clock()

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(self._seconds - self.spent, 0.0)

    def part(self, share: float) -> Budget:
        """Return a share of the whole, or what is left where that is less."""
        return Budget(min(share * self._seconds, self.left), clock=self._clock)

    def one_of(self, number: int) -> Budget:
        """Return what is left, divided among so many."""
        return Budget(self.left / number, clock=self._clock)


class Forecast:
    """Seconds that something takes at most, from what others of its kind took.

    Each has sizes, any numbers in the same order. Of two, the larger one takes longer by the
    largest ratio of their sizes at most, and the smaller one no longer than the other.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seen: list[tuple[tuple[float, ...], float]] = []

    def add(self, sizes: tuple[float, ...], seconds: float) -> None:
        """Note what one took."""
        self._seen.append((sizes, seconds))

    def seconds(self, sizes: tuple[float, ...]) -> float:
        """Return the lowest bound there is; 0 where nothing is known."""
        return min(
            (
                seconds * max(1.0, *(a / b for a, b in zip(sizes, seen, strict=True)))
                for seen, seconds in self._seen
            ),
            default=0.0,
        )
