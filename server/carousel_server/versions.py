"""The order of versions, and what tells one state of a file from another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

#: What sorts versions from the oldest to the newest.
Age = list[tuple[int, int, str]]


def age(version: str) -> Age:
    """Return a key that sorts versions as people do: 2 before 10, 1.9 before 1.10."""
    parts = re.findall(r"\d+|\D+", version)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file's size, time and number: another one where the file was changed or replaced."""

    size: int  # bytes
    mtime: int  # nanoseconds since the epoch
    inode: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Return a file's stamp.

        Raises:
            OSError: there is no such file, or it can't be asked.

        """
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)
