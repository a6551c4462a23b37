"""From a loaded model to one that is served: an engine and a driver of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from carousel_server.catalog import Served
from carousel_server.engine.directory import Directory
from carousel_server.engine.driver import Driver
from carousel_server.engine.engine import Engine, EngineLimits
from carousel_server.loading import Loaded
from carousel_server.metrics import Metrics
from carousel_server.settings import Settings


class Serving:
    """Starts and ends engines. Used on the event loop alone."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        metrics: Metrics,
        on_crash: Callable[[BaseException], None],
    ) -> None:
        """Start nothing yet.

        Args:
            settings: the engines' limits.
            directory: where their sessions are entered.
            metrics: what counts for them.
            on_crash: called on the loop with an exception that no request explains.

        """
        self._limits = engine_limits(settings)
        self._directory = directory
        self._metrics = metrics
        self._on_crash = on_crash
        # No number is used twice: the directory tells the sessions of engines apart by it.
        self._numbers = count()

    def start(self, item: Loaded) -> Served:
        """Give a loaded model an engine, and that a thread."""
        entry, number = item.entry, next(self._numbers)
        self._metrics.load_seconds.labels(entry.name, entry.version).set(item.seconds)
        engine = Engine(
            number=number,
            runner=item.model,
            directory=self._directory,
            limits=self._limits,
            cost=item.cost,
            observer=self._metrics.observer(entry.name),
        )
        driver = Driver(
            engine,
            name=f"{entry.name}/{entry.version}",
            loop=asyncio.get_running_loop(),
            inline_rows=item.inline_rows,
            on_crash=self._on_crash,
        )
        return Served(
            name=entry.name,
            version=entry.version,
            number=number,
            sha256=item.file.sha256,
            manifest=item.file.manifest,
            spec=item.model.spec,
            engine=engine,
            driver=driver,
            stamp=item.stamp,
        )

    async def stop(self, model: Served) -> None:
        """End a model's engine; what it has begun it ends."""
        await model.driver.stop()
        self._metrics.load_seconds.remove(model.name, model.version)


def engine_limits(settings: Settings) -> EngineLimits:
    """Return the engine's part of the settings."""
    return EngineLimits(
        queue_rows=settings.queue_rows,
        queue_bytes=settings.queue_bytes,
        max_chunk=settings.max_chunk,
        max_steps_per_tick=settings.max_steps_per_tick,
        half_parked=settings.state_dtype == "float16",
    )
