"""What Prometheus sees of a GPU: its memory, captured graphs, copies, and the time of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from carousel_server.runtime.ondevice.devicemodel import DeviceModel


class DeviceCollector(Collector):
    """Reads what models on a device have counted, so that no tick pays for it."""

    def __init__(self, models: Callable[[], Iterable[tuple[str, DeviceModel]]]) -> None:
        """Watch the models, each with its name, that are there when somebody scrapes."""
        self._models = models

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics; versions of a model are added up."""
        models = list(self._models())
        yield from self._memory(models)
        yield _sums("graph_captures", "Graphs captured", models, lambda m: m.counts.captures)
        yield _sums("graph_replays", "Runs of captured graphs", models, lambda m: m.counts.replays)
        yield _sums(
            "overlapped_runs",
            "Runs that were queued on the device while another one was under way",
            models,
            lambda m: m.overlapped,
        )
        yield _sums(
            "device_run_seconds",
            "Seconds that ticks took on the device, by its own clock",
            models,
            lambda m: m.run_seconds,
        )
        yield from _copies(models)

    def _memory(self, models: list[tuple[str, DeviceModel]]) -> Iterable[Metric]:
        pools = GaugeMetricFamily(
            "carousel_pool_bytes", "Bytes of the pool on the device", labels=["model"]
        )
        for name, count in _by_model(models, lambda model: model.pool_bytes).items():
            pools.add_metric([name], count)
        yield pools
        memory = GaugeMetricFamily(
            "carousel_device_memory_bytes",
            "Bytes of the device's memory, whoever uses them",
            labels=["state"],
        )
        room = models[0][1].memory.room() if models else None
        if room is not None:
            memory.add_metric(["free"], room.free)
            memory.add_metric(["used"], room.total - room.free)
        yield memory


def _copies(models: list[tuple[str, DeviceModel]]) -> Iterable[Metric]:
    labels = ["model", "direction"]
    copies = CounterMetricFamily(
        "carousel_device_copies", "Copies to and from the device", labels=labels
    )
    nbytes = CounterMetricFamily(
        "carousel_device_copy_bytes", "Bytes copied to and from the device", labels=labels
    )
    for direction in ("in", "out"):
        counted = _by_model(models, lambda m: getattr(m.memory.traffic, f"copies_{direction}"))  # noqa: B023
        moved = _by_model(models, lambda m: getattr(m.memory.traffic, f"bytes_{direction}"))  # noqa: B023
        for name in counted:
            copies.add_metric([name, direction], counted[name])
            nbytes.add_metric([name, direction], moved[name])
    yield from (copies, nbytes)


Read = Callable[[DeviceModel], float]


def _sums(name: str, text: str, models: list[tuple[str, DeviceModel]], read: Read) -> Metric:
    family = CounterMetricFamily(f"carousel_{name}", text, labels=["model"])
    for model, value in _by_model(models, read).items():
        family.add_metric([model], value)
    return family


def _by_model(models: list[tuple[str, DeviceModel]], read: Read) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, model in models:
        sums[name] = sums.get(name, 0.0) + read(model)
    return sums
