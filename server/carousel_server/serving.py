"""From a loaded model to one that is served: an engine and a driver of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from carousel_server.catalog import Served
from carousel_server.engine.checkpoints import SavePolicy
from carousel_server.engine.directory import Directory
from carousel_server.engine.driver import Driver
from carousel_server.engine.engine import Engine
from carousel_server.engine.limits import EngineLimits
from carousel_server.keeping.keeping import Keeping
from carousel_server.keeping.records import Recorder
from carousel_server.loading import Loaded
from carousel_server.metrics import Metrics
from carousel_server.runtime.ondevice.devicemodel import DeviceModel
from carousel_server.runtime.opening import OpenedModel
from carousel_server.settings import Settings


class Serving:
    """Starts and ends engines. Used on the event loop alone."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        metrics: Metrics,
        keeping: Keeping,
        *,
        on_crash: Callable[[BaseException], None],
        working: set[object] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            settings: the engines' limits.
            directory: where their sessions are entered.
            metrics: what counts for them.
            keeping: takes their checkpoints to the store.
            on_crash: called on the loop with an exception that no request explains.
            working: engines are in it while their threads are at work.

        """
        self._limits = engine_limits(settings)
        self._keeping = keeping
        self._directory = directory
        self._metrics = metrics
        self._on_crash = on_crash
        self._working = working
        # No number is used twice: the directory tells the sessions of engines apart by it.
        self._numbers = count()
        self._runners: dict[int, tuple[str, OpenedModel]] = {}

    def on_device(self) -> list[tuple[str, DeviceModel]]:
        """Return the models that are in a GPU's memory, by name."""
        return [(name, m) for name, m in self._runners.values() if isinstance(m, DeviceModel)]

    def start(self, item: Loaded) -> Served:
        """Give a loaded model an engine, and that a thread."""
        entry, number = item.entry, next(self._numbers)
        self._metrics.load_seconds.labels(entry.name, entry.version).set(item.seconds)
        keeper = self._keeping.for_engine(_recorder(item))
        engine = Engine(
            number=number,
            runner=item.model,
            directory=self._directory,
            limits=self._limits,
            cost=item.cost,
            observer=self._metrics.observer(entry.name),
            keeper=keeper,
        )
        driver = Driver(
            engine,
            name=f"{entry.name}/{entry.version}",
            loop=asyncio.get_running_loop(),
            inline_rows=item.inline_rows,
            on_crash=self._on_crash,
            working=self._working,
        )
        keeper.connect(driver)
        self._runners[number] = (entry.name, item.model)
        return Served(
            name=entry.name,
            version=entry.version,
            number=number,
            sha256=item.file.sha256,
            manifest=item.file.manifest,
            spec=item.model.spec,
            engine=engine,
            driver=driver,
            keeper=keeper,
            stamp=item.stamp,
        )

    async def change(self, old: Served, item: Loaded) -> tuple[Served, int]:
        """Have a newly loaded version take over another one's sessions, and return how many.

        Their handles stay valid. Inputs, outputs and states of the two must be the same.

        Raises:
            RunError: the states can't be moved; the old version serves on.

        """
        entry = item.entry
        sessions = await old.driver.change(item.model, cost=item.cost, inline_rows=item.inline_rows)
        self._runners[old.number][1].close()
        self._runners[old.number] = (entry.name, item.model)
        # What is saved from now on is the new version's.
        old.keeper.recorder = _recorder(item)
        self._metrics.load_seconds.remove(old.name, old.version)
        self._metrics.load_seconds.labels(entry.name, entry.version).set(item.seconds)
        new = replace(
            old,
            version=entry.version,
            sha256=item.file.sha256,
            manifest=item.file.manifest,
            spec=item.model.spec,
            stamp=item.stamp,
            former=(old.former | {old.version}) - {entry.version},
        )
        return new, sessions

    async def stop(self, model: Served) -> None:
        """End a model's engine; what it has begun it ends."""
        await model.driver.stop()
        self._runners.pop(model.number)[1].close()
        self._metrics.load_seconds.remove(model.name, model.version)


def _recorder(item: Loaded) -> Recorder:
    return Recorder(item.entry.name, item.entry.version, item.file.sha256, item.model.spec)


def engine_limits(settings: Settings) -> EngineLimits:
    """Return the engine's part of the settings."""
    return EngineLimits(
        queue_rows=settings.queue_rows,
        queue_bytes=settings.queue_bytes,
        max_chunk=settings.max_chunk,
        max_steps_per_tick=settings.max_steps_per_tick,
        half_parked=settings.state_dtype == "float16",
        saves=SavePolicy(
            steps=settings.checkpoint_every_steps,
            seconds=settings.checkpoint_every_ms / 1000,
            counted_only=settings.store == "memory",
            strict=settings.durability == "strict",
        ),
    )
