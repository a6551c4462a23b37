"""A Redis of the measurement's own, and what it says of itself."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Usage:
    """What a Redis has done since it was started."""

    at: float  # seconds, on the monotonic clock
    received_bytes: int
    file_bytes: int  # of its append-only file
    cpu_seconds: float
    memory_bytes: int  # now

    @staticmethod
    def of(info: dict[str, Any]) -> Usage:
        """Return what INFO says."""
        return Usage(
            at=time.monotonic(),
            received_bytes=int(info["total_net_input_bytes"]),
            file_bytes=int(info.get("aof_current_size", 0)),
            cpu_seconds=float(info["used_cpu_user"]) + float(info["used_cpu_sys"]),
            memory_bytes=int(info["used_memory"]),
        )

    def since(self, before: Usage) -> dict[str, float]:
        """Return what was used each second since then."""
        seconds = self.at - before.at
        return {
            "received_bytes_per_second": (self.received_bytes - before.received_bytes) / seconds,
            "file_bytes_per_second": (self.file_bytes - before.file_bytes) / seconds,
            "cores": (self.cpu_seconds - before.cpu_seconds) / seconds,
        }


@dataclass(frozen=True, slots=True)
class RunningStore:
    """A Redis process."""

    url: str
    client: redis.Redis

    def usage(self) -> Usage:
        """Return what it has done so far."""
        info: Any = self.client.info()
        return Usage.of(info)


@contextmanager
def redis_server(*, fsync: str = "always") -> Iterator[RunningStore]:
    """Run a Redis that appends to a file, on a free port of the loopback address.

    `fsync` is its `appendfsync`. Raises RuntimeError where there is no Redis.
    """
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        raise RuntimeError("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""),
            *("--appendonly", "yes", "--appendfsync", fsync),
            *("--auto-aof-rewrite-percentage", "0"),  # its file is what was written to it
        ]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            with redis.Redis(port=port) as client:
                _await(client)
                yield RunningStore(f"redis://127.0.0.1:{port}/0", client)
        finally:
            process.kill()
            process.wait()


def _await(client: redis.Redis) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        with suppress(redis.exceptions.ConnectionError):
            client.ping()
            return
        if time.monotonic() > until:
            raise RuntimeError("redis-server did not start")
        time.sleep(0.02)
