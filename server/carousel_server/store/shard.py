"""One folder of record files that processes write in turn, under a lock."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from carousel_server import log
from carousel_server.store.encoding import Written, decode, encode
from carousel_server.store.interface import StoreUnavailable

_LOCK = "lock"
_PARTIAL = ".partial"
_PAUSE_SECONDS = 0.002


class Shard:
    """A folder of records by file name.

    A file is written under another name, brought to the disk, and renamed: whoever reads, and
    whatever crashes, there is the old one or the new one. `read` needs no lock; what is written
    must be decided on under the lock (`locked`).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def locked(self, *, wait_seconds: float) -> Iterator[None]:
        """Keep other processes and threads out; at the end, names are on the disk too.

        The lock is the kernel's: it ends with the process that holds it, but not while that is
        stopped.

        Raises:
            StoreUnavailable: somebody has kept the lock for longer than `wait_seconds`.

        """
        lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._acquire(lock, wait_seconds)
            yield
        finally:
            os.close(lock)

    def _acquire(self, lock: int, wait_seconds: float) -> None:
        until = time.monotonic() + wait_seconds
        while True:
            with suppress(BlockingIOError):
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.monotonic() >= until:
                raise StoreUnavailable(
                    f"{self._folder / _LOCK} has been locked by another process for more than "
                    f"{wait_seconds:g} s; is one of the servers stopped?"
                )
            time.sleep(_PAUSE_SECONDS)

    def read(self, name: str) -> Written | None:
        """Return what the file has, None where there is none or it is damaged."""
        try:
            return decode((self._folder / name).read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            path = str(self._folder / name)
            log.get().warning("a record is damaged, and left out", path=path, reason=str(error))
            return None

    def write(self, name: str, written: Written) -> None:
        """Put a record in the place of what was there, whole or not at all."""
        path, partial = self._folder / name, self._folder / (name + _PARTIAL)
        try:
            with partial.open("wb") as file:
                file.write(encode(written))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def settle(self) -> None:
        """Bring the names of what was written to the disk."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def clean(self) -> None:
        """Remove what a crash left half written; under the lock nobody else is writing."""
        for path in self._folder.glob(f"*{_PARTIAL}"):
            path.unlink(missing_ok=True)

    def sweep(self, *, now: float, younger: float) -> None:
        """Remove records whose time is over; `younger`: none of a file written since then is.

        Both are in seconds since the epoch.
        """
        with os.scandir(self._folder) as entries:
            old = [entry.name for entry in entries if entry.stat().st_mtime < younger]
        for name in old:
            if name != _LOCK and not name.endswith(_PARTIAL):
                written = self.read(name)
                if written is None or written.until <= now:
                    (self._folder / name).unlink(missing_ok=True)
