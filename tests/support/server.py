"""A real server process for tests: on 127.0.0.1 and free ports, ended with the test."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 30
_STOP_SECONDS = 30


@dataclass
class RunningServer:
    """Where a server listens, and its process."""

    address: str
    http: str
    process: subprocess.Popen[str]
    log: Path

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(_STOP_SECONDS)

    def log_text(self) -> str:
        """Return what the server has logged so far."""
        return self.log.read_text()


@contextmanager
def run_server(
    models: Path, *flags: str, log: Path, module: str = "carousel_server", **variables: str
) -> Iterator[RunningServer]:
    """Run a server over a repository for as long as the context lasts.

    `module` is what is run, with `variables` in its environment.
    """
    command = [
        *(sys.executable, "-m", module, "--models", str(models)),
        *("--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"),
        *("--device", "cpu", "--drain-seconds", "5", *flags),
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CAROUSEL_")}
    environment |= variables
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
    try:
        address, http = _ready_line(process, log).split()[1:]
        yield RunningServer(address, http, process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def _ready_line(process: subprocess.Popen[str], log: Path) -> str:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if select.select([process.stdout], [], [], 0.1)[0]:
            line = process.stdout.readline()
            if line.startswith("ready "):
                return line
            break
    raise AssertionError(f"the server did not start:\n{log.read_text()}")
