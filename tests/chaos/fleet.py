"""Servers that share a store: each keeps its ports, while its processes come and go."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

_START_SECONDS = 60
_STOP_SECONDS = 30

#: Below what the kernel gives to outgoing connections: while a server is down, one of these must
#: not take its port.
_PORTS = range(20_000, 32_000)


def free_ports(count: int, chance: random.Random) -> list[int]:
    """Return ports of the loopback address on which nobody listens."""
    found: list[int] = []
    while len(found) < count:
        port = chance.choice(_PORTS)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


@dataclass
class Member:
    """One place for a server."""

    name: str
    address: str
    command: list[str]
    log: Path
    http: str = ""  # where metrics and probes are; empty: at a port of the server's choice
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    _read: int = field(default=0, repr=False)  # bytes of the log that earlier processes wrote

    @property
    def is_up(self) -> bool:
        """Whether a process runs."""
        return self.process is not None and self.process.poll() is None

    async def start(self) -> None:
        """Start a process, and wait until it is ready."""
        assert not self.is_up
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CAROUSEL_")}
        self._read = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220, it takes a millisecond
                self.command, stdout=log, stderr=log, env=environment
            )
        self.starts += 1
        until = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if time.monotonic() > until or not self.is_up:
                raise AssertionError(f"{self.name} did not start:\n{self.log_text()}")
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """End it as a crash would."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def drain(self) -> None:
        """End it as an operator would."""
        self.signal(signal.SIGTERM)
        status = await self.ended()
        assert status == 0, f"{self.name} ended with {status}:\n{self.log_text()}"

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the process's end, and return its status."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, _STOP_SECONDS)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Let it be there and do nothing."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def log_text(self) -> str:
        """Return what the present process has logged."""
        return self.log.read_bytes()[self._read :].decode(errors="replace")

    def _is_ready(self) -> bool:
        return any(line.startswith("ready ") for line in self.log_text().splitlines())


@dataclass
class Fleet:
    """The members."""

    members: list[Member]

    @property
    def addresses(self) -> list[str]:
        """Where they are."""
        return [member.address for member in self.members]

    async def start(self) -> None:
        """Start those that are down, all at a time."""
        await asyncio.gather(*(member.start() for member in self.members if not member.is_up))

    def end(self) -> None:
        """End all processes at once."""
        for member in self.members:
            if member.process is not None:
                member.process.kill()
        for member in self.members:
            if member.process is not None:
                member.process.wait()


@asynccontextmanager
async def run_fleet(
    models: Path,
    folder: Path,
    *flags: str,
    store: str,
    ports: Sequence[int],
    advertised: Sequence[str] = (),
    metrics_ports: Sequence[int] = (),
    modules: Sequence[str] = (),
) -> AsyncIterator[Fleet]:
    """Run a server on each port.

    `advertised` are the addresses that they give for themselves; `modules` are what each of them is
    started as, the server itself unless said otherwise.
    """
    members = []
    for number, port in enumerate(ports):
        address = f"127.0.0.1:{port}"
        http = f"127.0.0.1:{metrics_ports[number]}" if metrics_ports else ""
        command = [
            *(sys.executable, "-m", modules[number] if modules else "carousel_server"),
            *("--models", str(models)),
            *("--address", address, "--metrics-address", http or "127.0.0.1:0"),
            *("--store", store, "--advertise", advertised[number] if advertised else address),
            *(
                "--device",
                "cpu",
                "--threads",
                "1",
                "--drain-seconds",
                "10",
                "--log-format",
                "text",
                *flags,
            ),
        ]
        name = f"server {number}"
        members.append(Member(name, address, command, folder / f"server{number}.log", http))
    fleet = Fleet(members)
    try:
        await fleet.start()
        yield fleet
    finally:
        fleet.end()
