"""The whole server on the device, loaded by several gateways at once.

A gateway is one process with one connection that has the sessions of many users, and sends a step
of each of them in one message, columns: `carousel bench --mode group`. It sends the next one when
it has the answers. It stands for what an application puts between its users and the server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.ondevice.budget import Budget
from benchmarks.processes import Running, carousel_server

_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """Steps a second of so many gateways, and where the engine's time went meanwhile."""

    gateways: int
    sessions: int
    steps_a_second: float
    ticking: float  # ticks under way at a time, in the mean: they may overlap
    on_device: float  # the part in which the device was at work on it, by its own clock


def load(
    models: Path,
    device: str,
    *,
    gateways: Sequence[int],
    sessions: int,
    seconds: float,
    budget: Budget,
) -> list[Load]:
    """Serve the model `lstm`, and measure it with each number of gateways that there is time for.

    The sessions are divided among the gateways.

    Raises:
        RuntimeError: the server did not start, or a gateway failed.

    """
    flags = ("--device", device, "--slots", str(sessions), "--autotune")
    with carousel_server(models, *flags) as server:
        return [
            _load(server, count, sessions, seconds) for count in gateways if budget.left > seconds
        ]


def _load(server: Running, gateways: int, sessions: int, seconds: float) -> Load:
    before = _busy(server)
    command = [
        *(sys.executable, "-m", "benchmarks.ondevice.client"),
        *("--address", server.address, "bench", "lstm", "--mode", "group", "--json"),
        *("--sessions", str(sessions // gateways), "--seconds", str(seconds)),
    ]
    rate = 0.0
    with ExitStack() as stack:
        running = [stack.enter_context(_process(command)) for _ in range(gateways)]
        for process in running:
            out, _ = process.communicate(timeout=seconds + _PATIENCE)
            if process.returncode:
                raise RuntimeError(f"a gateway ended with status {process.returncode}")
            rate += json.loads(out)["modes"]["group"]["steps_per_second"]
    ticking, on_device = (
        (now - then) / seconds for now, then in zip(_busy(server), before, strict=True)
    )
    return Load(gateways, sessions, rate, ticking, on_device)


@contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a process, and end it with the context if it has not ended by itself."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _busy(server: Running) -> tuple[float, float]:
    """Return the seconds that ticks have taken, in all and on the device."""
    sums = dict.fromkeys(("carousel_step_seconds_sum", "carousel_device_run_seconds_total"), 0.0)
    with urllib.request.urlopen(f"http://{server.addresses[1]}/metrics", timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
    for family in families:
        for sample in family.samples:
            if sample.name in sums and sample.labels.get("phase", "run") == "run":
                sums[sample.name] += sample.value
    ticking, on_device = sums.values()
    return ticking, on_device
