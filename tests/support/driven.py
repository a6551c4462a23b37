"""An engine on the bench, with the driver that runs its turns on threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from carousel_server.engine.driver import Driver
from tests.support.bench import Bench

#: Steps that may be queued for a turn on the event loop.
ALWAYS_INLINE, NEVER_INLINE = 1_000_000, 0


@asynccontextmanager
async def driven(
    bench: Bench, inline_rows: int, crashes: list[BaseException] | None = None
) -> AsyncIterator[Driver]:
    """Drive a bench's engine on the running loop."""
    driver = Driver(
        bench.engine,
        name="test",
        loop=asyncio.get_running_loop(),
        inline_rows=inline_rows,
        on_crash=([] if crashes is None else crashes).append,
    )
    try:
        yield driver
    finally:
        await driver.stop()
