"""A real Redis (or Valkey) for tests: on 127.0.0.1 and a free port, ended with the test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_START_SECONDS = 30


@dataclass
class RunningRedis:
    """A Redis process, which can be stopped and started again on the same port and folder."""

    port: int
    folder: Path
    options: tuple[str, ...]
    password: str | None = None
    certificate: Path | None = None  # TLS, with this certificate as its own authority
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of database 0."""
        user = f":{quote(self.password, safe='')}@" if self.password else ""
        if self.certificate:
            return f"rediss://{user}localhost:{self.port}/0?ssl_ca_certs={self.certificate}"
        return f"redis://{user}127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """Return a client for looking behind the store's back."""
        return redis.Redis.from_url(
            self.url, socket_timeout=10, retry=Retry(NoBackoff(), 0), protocol=2
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        listens = ["--port", "0", "--tls-port"] if self.certificate else ["--port"]
        command = [
            *(_binary(), *listens, str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self.folder), "--save", "", *self.options),
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + _START_SECONDS
        with self.client() as client:
            while True:
                with suppress(redis.exceptions.RedisError):
                    client.ping()
                    return
                if time.monotonic() > until or self.process.poll() is not None:
                    raise AssertionError((self.folder / "log").read_text())
                time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it be there and not answer."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def run_redis(
    folder: Path,
    *options: str,
    password: str | None = None,
    certificate: Path | None = None,
) -> Iterator[RunningRedis]:
    """Run a Redis with its files in `folder` for as long as the context lasts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = ("--requirepass", password) if password else ()
    running = RunningRedis(port, folder, (*more, *options), password, certificate)
    try:
        running.start()
        yield running
    finally:
        running.kill()


def needed_tool(name: str, *others: str) -> str:
    """Return where a tool is; without it the test is skipped, and fails where CI is set."""
    for tool in (name, *others):
        found = shutil.which(tool)
        if found:
            return found
    reason = f"{name} is not installed (Debian: apt-get install {name})"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _binary() -> str:
    return needed_tool("redis-server", "valkey-server")
