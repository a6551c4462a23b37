"""What Prometheus sees: names, labels and buckets, in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from carousel_server.engine.engine import Engine
from carousel_server.engine.observer import Observer
from carousel_server.keeping.observer import KeepingObserver
from carousel_server.tally import Tallies

# From a solo step of a small model, tens of microseconds, to a request's usual patience.
_SECONDS = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 1, 5)
_COUNTS = tuple(2**power for power in range(0, 17, 2))
_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)


class Metrics:
    """All metrics of one server, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.opened = self._counter("sessions_opened", "Sessions opened", "model")
        self.ended = self._counter("sessions_ended", "Sessions ended", "model", "reason")
        self.parks = self._counter("parks", "States that went from the pool to the host", "model")
        self.restores = self._counter("restores", "States that came back to the pool", "model")
        self.steps = self._counter("steps", "Steps applied", "model")
        self.rejected = self._counter("rows_rejected", "Rows not OK", "model", "reason")
        self.tick_rows = self._tally("tick_rows", "Pieces in a tick", _COUNTS, "model")
        self.tick_steps = self._tally("tick_steps", "Steps in a tick", _COUNTS, "model")
        self.padding = self._tally(
            "tick_padding_ratio",
            "Padded steps in a tick over all steps that it ran",
            _RATIOS,
            "model",
        )
        self.seconds = self._tally(
            "step_seconds",
            "Seconds of a step message: queued, of a tick: run, of a message: total",
            _SECONDS,
            "model",
            "phase",
        )
        self.load_seconds = Gauge(
            "carousel_model_load_seconds",
            "Seconds that loading took",
            ["model", "version"],
            registry=self.registry,
        )
        self.load_failures = self._counter(
            "model_load_failures", "Versions that could not be loaded while running", "model"
        )
        self.rpcs = self._counter("rpcs", "RPCs that ended", "method", "code")
        self.rpc_seconds = Histogram(
            "carousel_rpc_seconds",
            "Seconds from a call's start to its end",
            ["method"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.checkpoints = self._counter(
            "checkpoints", "Checkpoints that the store took, or refused", "outcome"
        )
        self.checkpoint_seconds = self._tally(
            "checkpoint_seconds", "Seconds of one write of checkpoints to the store", _SECONDS
        )
        self.store_up = Gauge(
            "carousel_store_up", "Whether the store answered last", registry=self.registry
        )
        self.store_up.set(1)
        self.keeping = _KeepingCounter(self)
        info = Gauge(
            "carousel_build_info", "Always 1; the label tells", ["version"], registry=self.registry
        )
        info.labels(version).set(1)

    def watch(self, engines: Callable[[], Iterable[tuple[str, Engine]]]) -> None:
        """Read the engines' numbers whenever somebody scrapes."""
        self.registry.register(_EngineCollector(engines))

    def watch_keeping(self, waiting_bytes: Callable[[], int]) -> None:
        """Read what waits for the store whenever somebody scrapes."""
        waiting = Gauge(
            "carousel_store_waiting_bytes",
            "Bytes of checkpoints that wait for the store",
            registry=self.registry,
        )
        waiting.set_function(waiting_bytes)

    def certificate(self) -> Gauge:
        """Return where to say when the certificate ends; it is there with TLS alone."""
        return Gauge(
            "carousel_tls_certificate_expiry_timestamp_seconds",
            "When the certificate in use ends, in seconds since 1970",
            registry=self.registry,
        )

    def observer(self, model: str) -> EngineObserver:
        """Return what counts for one model."""
        self.load_failures.labels(model)  # 0, until one fails
        return EngineObserver(self, model)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"carousel_{name}_total", text, labels, registry=self.registry)

    def _tally(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Tallies:
        tallies = Tallies(f"carousel_{name}", text, buckets, labels)
        self.registry.register(tallies)
        return tallies


class _KeepingCounter(KeepingObserver):
    """Counts what becomes of checkpoints."""

    def __init__(self, metrics: Metrics) -> None:
        self._kept = metrics.checkpoints.labels("kept")
        self._refused = metrics.checkpoints.labels("refused")
        self._seconds = metrics.checkpoint_seconds.labels()
        self._up = metrics.store_up

    def saved(self, kept: int, refused: int, seconds: float) -> None:
        """Count one write."""
        self._kept.inc(kept)
        self._refused.inc(refused)
        self._seconds.observe(seconds)

    def store_is(self, *, up: bool) -> None:
        """Note it."""
        self._up.set(up)


class EngineObserver(Observer):
    """Counts what one model's engines tell; label look-ups are done once, here."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics = metrics
        self._model = model
        self._steps = metrics.steps.labels(model)
        self._tick_rows = metrics.tick_rows.labels(model)
        self._tick_steps = metrics.tick_steps.labels(model)
        self._padding = metrics.padding.labels(model)
        self._queue = metrics.seconds.labels(model, "queue")
        self._run = metrics.seconds.labels(model, "run")
        self._total = metrics.seconds.labels(model, "total")
        self._opened = metrics.opened.labels(model)
        self._parks = metrics.parks.labels(model)
        self._restores = metrics.restores.labels(model)

    def queued(self, seconds: float) -> None:
        """Count a message's wait."""
        self._queue.observe(seconds)

    def ticked(
        self, *, rows: int, steps: int, padded_steps: int, applied: int, seconds: float
    ) -> None:
        """Count a tick."""
        self._steps.inc(applied)
        self._tick_rows.observe(rows)
        self._tick_steps.observe(steps)
        self._padding.observe(1.0 - steps / padded_steps)
        self._run.observe(seconds)

    def answered(self, seconds: float) -> None:
        """Count a message."""
        self._total.observe(seconds)

    def rejected(self, reason: str, rows: int) -> None:
        """Count rows that were not OK."""
        self._metrics.rejected.labels(self._model, reason).inc(rows)

    def opened(self, sessions: int) -> None:
        """Count sessions that were opened."""
        self._opened.inc(sessions)

    def ended(self, reason: str, sessions: int) -> None:
        """Count sessions that ended."""
        self._metrics.ended.labels(self._model, reason).inc(sessions)

    def parked(self, sessions: int) -> None:
        """Count states that left the pool."""
        self._parks.inc(sessions)

    def restored(self, sessions: int) -> None:
        """Count states that came back."""
        self._restores.inc(sessions)


class _EngineCollector(Collector):
    """Reads gauges off the engines at each scrape, so that no step pays for them."""

    def __init__(self, engines: Callable[[], Iterable[tuple[str, Engine]]]) -> None:
        self._engines = engines

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges."""
        sessions = GaugeMetricFamily(
            "carousel_sessions", "Open sessions", labels=["model", "state"]
        )
        slots = GaugeMetricFamily("carousel_slots", "Slots of the pool", labels=["model", "state"])
        queue = GaugeMetricFamily("carousel_queue_rows", "Rows not answered", labels=["model"])
        state = GaugeMetricFamily(
            "carousel_state_bytes", "Bytes of open sessions' state", labels=["model", "place"]
        )
        error = GaugeMetricFamily(
            "carousel_parking_error",
            "Largest error of a parked value, relative to the larger of 1 and itself",
            labels=["model"],
        )
        by_model: dict[str, list[Engine]] = {}
        for model, engine in self._engines():
            by_model.setdefault(model, []).append(engine)
        for model, engines in by_model.items():
            residencies = [engine.sessions.residency for engine in engines]
            alive = sum(engine.sessions.table.open for engine in engines)
            used = sum(residency.slots.used for residency in residencies)
            parked = sum(residency.lot.taken for residency in residencies)
            sessions.add_metric([model, "live"], alive - parked)
            sessions.add_metric([model, "parked"], parked)
            slots.add_metric([model, "used"], used)
            slots.add_metric([model, "free"], sum(r.slots.free for r in residencies))
            queue.add_metric([model], sum(engine.queued.rows for engine in engines))
            held = sum(e.sessions.residency.slots.used * e.spec.state_bytes for e in engines)
            state.add_metric([model, "pool"], held)
            state.add_metric(
                [model, "host"], sum(r.lot.taken * r.lot.row_bytes for r in residencies)
            )
            error.add_metric([model], max(r.lot.worst_error for r in residencies))
        return [sessions, slots, queue, state, error]
