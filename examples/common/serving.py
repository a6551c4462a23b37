"""A real server as a process of its own, ended with the block that started it."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.common.errors import DemoError

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Server:
    """Where a server listens, HOST:PORT each, and its process id."""

    address: str
    http: str
    pid: int


@contextmanager
def serving(models: Path, *, log: Path) -> Iterator[Server]:
    """Serve a repository of models on free ports of this machine alone, for as long as the block.

    The server's log goes to `log`. Raises DemoError where it doesn't start.
    """
    command = [
        *(sys.executable, "-m", "carousel_server", "--models", str(models), "--device", "cpu"),
        *("--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0", "--drain-seconds", "5"),
    ]
    with (
        log.open("w") as errors,
        # In a session of its own a Ctrl-C reaches this program alone, which then stops the server
        # in good order; the server would take a second signal as an order to stop at once.
        subprocess.Popen(  # noqa: S603 - our own program, no shell
            command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        ) as process,
    ):
        try:
            address, http = _wait_until_ready(process, log)
            yield Server(address, http, process.pid)
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[str], log: Path) -> tuple[str, str]:
    """Read the line `ready GRPC_HOST:PORT HTTP_HOST:PORT`."""
    assert process.stdout is not None
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if select.select([process.stdout], [], [], 0.1)[0]:
            match process.stdout.readline().split():
                case ["ready", address, http]:
                    return address, http
                case _:
                    break
    last = log.read_text().strip().splitlines()[-1:]
    raise DemoError(f"The server did not start; {log} ends with: {''.join(last) or 'nothing'}")


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except BaseException:  # also a second Ctrl-C: the process must not stay behind
        process.kill()
        process.wait()
        raise
