"""Words that several places print."""

from __future__ import annotations


def steps(count: int) -> str:
    """Return "1 step", "2 steps" and so on."""
    return counted(count, "step")


def counted(count: int, noun: str) -> str:
    """Return "1 cell", "2 cells" and so on."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, which is all a person needs."""
    return (str(error).splitlines() or [type(error).__name__])[0]
