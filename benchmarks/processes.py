"""The processes that are measured: Carousel's server, and the echo beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STOP_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Running:
    """A server process and its addresses, the gRPC one first."""

    addresses: list[str]
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        """Where gRPC is served."""
        return self.addresses[0]

    def resident_bytes(self) -> int:
        """Bytes of memory that the process has in use."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024


@contextmanager
def carousel_server(models: Path, *flags: str) -> Iterator[Running]:
    """Run Carousel's server over a repository, on free ports of the loopback address."""
    with _run(
        [
            *("-m", "carousel_server", "--models", str(models), "--device", "cpu"),
            *("--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0", *flags),
        ]
    ) as running:
        yield running


@contextmanager
def metered_server(models: Path, *flags: str) -> Iterator[Running]:
    """Run Carousel's server in `benchmarks.metered`, which may leave counting out."""
    with _run(["-m", "benchmarks.metered", "--models", str(models), *flags]) as running:
        yield running


@contextmanager
def echo_server() -> Iterator[Running]:
    """Run the echo on a free port of the loopback address."""
    with _run(["-m", "benchmarks.echo"]) as running:
        yield running


@contextmanager
def _run(arguments: list[str]) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("ready "):
            raise RuntimeError(f"{' '.join(arguments)} did not start")
        yield Running(line.split()[1:], process)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
