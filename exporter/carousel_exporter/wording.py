"""Words that several places print."""

from __future__ import annotations


def steps(count: int) -> str:
    """Return "1 step", "2 steps" and so on."""
    return f"{count} step" if count == 1 else f"{count} steps"
