"""What a server tells Prometheus, read once."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from examples.common.errors import DemoError


@dataclass(frozen=True)
class Figures:
    """A few figures of one model since the server's start."""

    sessions: int
    steps: int
    ticks: int
    rows_a_tick: float
    milliseconds_a_message: float


def fetch_figures(http: str, model: str) -> Figures:
    """Read the figures of a model from the server's /metrics at HOST:PORT."""
    # No proxy: the environment may name one, and this address is on the same machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{http}/metrics", timeout=5) as answer:
        return parse_figures(answer.read().decode(), model)


def parse_figures(text: str, model: str) -> Figures:
    """Read the figures of a model from Prometheus's text format.

    Raises DemoError where one is not there.
    """
    samples = {
        (sample.name, sample.labels.get("phase", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model") == model and "le" not in sample.labels
    }

    def read(name: str, phase: str = "") -> float:
        if (name, phase) not in samples:
            raise DemoError(f"The server's /metrics has no {name} of model {model!r}.")
        return samples[name, phase]

    def mean(name: str, phase: str = "") -> float:
        return read(f"{name}_sum", phase) / max(1.0, read(f"{name}_count", phase))

    return Figures(
        sessions=int(read("carousel_sessions_opened_total")),
        steps=int(read("carousel_steps_total")),
        ticks=int(read("carousel_tick_rows_count")),
        rows_a_tick=mean("carousel_tick_rows"),
        milliseconds_a_message=1e3 * mean("carousel_step_seconds", "total"),
    )
