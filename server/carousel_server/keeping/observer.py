"""What keeping tells of itself; `metrics.py` counts it, and tests look on."""

from __future__ import annotations


class KeepingObserver:
    """Hears what becomes of checkpoints; this one makes nothing of it.

    Called from the keeper's thread.
    """

    def saved(self, kept: int, refused: int, seconds: float) -> None:
        """Hear of checkpoints that the store took, and of those of sessions that others have."""

    def store_is(self, *, up: bool) -> None:
        """Hear whether the store answers."""
