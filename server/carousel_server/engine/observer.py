"""What the engine tells of itself; `metrics.py` counts it, and tests look on."""

from __future__ import annotations


class Observer:
    """Hears what happens in one engine; this one makes nothing of it.

    Called from whichever thread has the engine's turn, but `rejected` also on the event loop.
    """

    def queued(self, seconds: float) -> None:
        """Hear that a message waited so long before it was taken in."""

    def ticked(
        self, *, rows: int, steps: int, padded_steps: int, applied: int, seconds: float
    ) -> None:
        """Hear of a tick: its rows, its steps, also with padding, and those that were applied."""

    def answered(self, seconds: float) -> None:
        """Hear that a message was answered in full, so long after it came."""

    def rejected(self, reason: str, rows: int) -> None:
        """Hear that rows ended with a status other than OK."""

    def opened(self, sessions: int) -> None:
        """Hear that sessions were opened."""

    def ended(self, reason: str, sessions: int) -> None:
        """Hear that sessions ended: "closed" or "expired"."""

    def parked(self, sessions: int) -> None:
        """Hear that states went from the pool to host memory."""

    def restored(self, sessions: int) -> None:
        """Hear that states came back into the pool."""
