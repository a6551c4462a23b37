"""What has to be done to sessions every so often: let them expire, park them, save them.

And to the store: to see whether it answers.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from carousel_server import log
from carousel_server.catalog import Catalog, Served
from carousel_server.engine import controls, transfers
from carousel_server.errors import ModelUnloaded
from carousel_server.keeping.keeping import Keeping
from carousel_server.keeping.verifying import verify
from carousel_server.settings import Settings

_SWEEP_SECONDS = 1.0
_LOOKS = 4  # for sessions to save, in the time after which they are due


class Housekeeping:
    """Tasks of the event loop."""

    def __init__(self, settings: Settings, catalog: Catalog, keeping: Keeping) -> None:
        self._park = settings.park_after
        self._expire = settings.expire_after
        self._look_seconds = settings.lease_seconds
        self._save_seconds = settings.checkpoint_every_ms / 1000
        self._catalog = catalog
        self._keeping = keeping
        self._tasks: list[asyncio.Task[None]] = []

    def verify(self) -> None:
        """Find out which sessions others have taken over."""
        self._tasks.append(asyncio.create_task(verify(self._keeping, self._catalog.all())))

    def start(self) -> None:
        """Begin."""
        self._tasks.append(asyncio.create_task(self._save_late()))
        if self._keeping.shared:
            self._tasks.append(asyncio.create_task(self._look()))
        if self._park or self._expire:
            self._tasks.append(asyncio.create_task(self._sweep()))

    def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            await self._keeping.look()

    async def _save_late(self) -> None:
        while True:
            await asyncio.sleep(self._save_seconds / _LOOKS)
            for model in self._catalog.all():
                with suppress(ModelUnloaded):
                    # In parts: ticks come between them.
                    while await model.driver.control(transfers.SaveLate()):
                        pass

    async def _sweep(self) -> None:
        limits = (limit / 2 for limit in (self._park, self._expire) if limit)
        pause = min(_SWEEP_SECONDS, *limits)
        while True:
            await asyncio.sleep(pause)
            for model in self._catalog.all():
                with suppress(ModelUnloaded):
                    await self._sweep_one(model)

    async def _sweep_one(self, model: Served) -> None:
        if self._expire:
            ended = await model.driver.control(controls.Expire(self._expire))
            if ended.ids:
                log.get().info("sessions expired", model=model.name, sessions=len(ended.ids))
                await self._keeping.delete(ended)
        if self._park and (parked := await model.driver.control(controls.Park(self._park))):
            log.get().info("sessions parked", model=model.name, sessions=parked)
