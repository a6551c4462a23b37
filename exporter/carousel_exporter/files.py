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
    check_writable(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(number)
    temporary = Path(name)
    temporary.chmod(0o644)  # mkstemp's 0600 would keep a server of another user from reading it
    try:
        with _named(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_other(out: Path, read: Path, done: str) -> None:
    """Raise ExporterError where `out` is the file that is read, to be `done` something with."""
    if out.exists() and read.exists() and out.samefile(read):
        raise ExporterError(f"{out} is the file to be {done}: give --out another name.")


def check_writable(path: Path) -> None:
    """Raise ExporterError where a file can't come to be at `path`; leaves nothing behind.

    Folders that are missing must be such as can be made: the last one that is there is tried.
    """
    if path.is_dir():
        raise ExporterError(f"{path} can't be written: it is a folder; name a file in it.")
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with _named(path), tempfile.TemporaryFile(dir=folder):
        pass


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn the system's refusals into a sentence that names the file that was meant."""
    try:
        yield
    except OSError as error:
        raise ExporterError(f"{path} can't be written: {error.strerror or error}.") from error
