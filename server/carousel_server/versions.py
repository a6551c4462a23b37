"""The order of versions."""

from __future__ import annotations

import re

#: What sorts versions from the oldest to the newest.
Age = list[tuple[int, int, str]]


def age(version: str) -> Age:
    """Return a key that sorts versions as people do: 2 before 10, 1.9 before 1.10."""
    parts = re.findall(r"\d+|\D+", version)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
