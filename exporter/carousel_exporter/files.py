"""Writing a file so that its name stands for all of it or for nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carousel_exporter.errors import ExporterError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed to it at the end, removed on any failure."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise ExporterError(f"{path} can't be written: {error.strerror}.") from error
    os.close(number)
    temporary = Path(name)
    temporary.chmod(0o644)  # mkstemp's 0600 would keep a server of another user from reading it
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
