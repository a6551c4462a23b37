"""The whole server on the device, loaded by several client processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.processes import Running, carousel_server

_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """Steps a second of so many client processes, and where the engine's time went meanwhile."""

    clients: int
    sessions: int
    steps_a_second: float
    ticking: float  # the part of the time in which the engine ran a tick
    on_device: float  # the part in which the device was at work on it, by its own clock


def load(
    models: Path, device: str, *, clients: tuple[int, ...], sessions: int, seconds: float
) -> list[Load]:
    """Serve the model `lstm` and measure it with each number of clients."""
    flags = ("--device", device, "--slots", str(sessions), "--autotune")
    with carousel_server(models, *flags) as server:
        return [_load(server, count, sessions, seconds) for count in clients]


def _load(server: Running, clients: int, sessions: int, seconds: float) -> Load:
    before = _busy(server)
    command = [
        *(sys.executable, "-m", "benchmarks.ondevice.client"),
        *("--address", server.address, "bench", "lstm", "--mode", "group", "--json"),
        *("--sessions", str(sessions // clients), "--seconds", str(seconds)),
    ]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(clients)]
    rate = 0.0
    for process in running:
        out, _ = process.communicate(timeout=seconds + _PATIENCE)
        if process.returncode:
            raise RuntimeError(f"a client ended with status {process.returncode}")
        rate += json.loads(out)["modes"]["group"]["steps_per_second"]
    ticking, on_device = (
        (now - then) / seconds for now, then in zip(_busy(server), before, strict=True)
    )
    return Load(clients, sessions, rate, ticking, on_device)


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
