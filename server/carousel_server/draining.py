"""Going down: take nothing new, finish what is queued, save the sessions, tell the clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from carousel.v1 import sessions_pb2
from carousel_server.catalog import Catalog
from carousel_server.keeping.keeping import Keeping
from carousel_server.keeping.leaving import leave_all
from carousel_server.lifecycle import Lifecycle
from carousel_server.rpc.build import Health
from carousel_server.rpc.stream import OpenStreams


async def drain(
    seconds: float,
    *,
    lifecycle: Lifecycle,
    streams: OpenStreams,
    catalog: Catalog,
    health: Health,
    keeping: Keeping,
    save: bool,
) -> None:
    """Drain the server in so many seconds, or little more.

    Args:
        seconds: how long what is queued, saving, and clients that leave are waited for.
        lifecycle: told first, so that everybody refuses what is new.
        streams: told, and ended when what they have is answered.
        catalog: whose engines become idle.
        health: says no more that the server serves.
        keeping: ended; where others share the store, sessions are released to them.
        save: whether the states can be trusted.

    """
    lifecycle.draining = True
    await health.set(serving=False)
    streams.notify(lambda: _notice(seconds, keeping.place if keeping.shared else ""))
    until = time.monotonic() + seconds
    await _poll(lambda: all(model.driver.idle for model in catalog.all()), until)
    if keeping.shared and save:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(until - time.monotonic(), 1)):
                for model in catalog.all():
                    await leave_all(keeping, model)
    streams.end()
    await _poll(lambda: not len(streams), until)
    await keeping.stop(max(until - time.monotonic(), 1.0))


async def _poll(condition: Callable[[], bool], until: float) -> None:
    """Wait for a condition that nobody announces, or for a time on the monotonic clock."""
    while not condition() and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def _notice(seconds: float, saved_to: str) -> sessions_pb2.StreamResponse:
    response = sessions_pb2.StreamResponse()
    response.draining.saved_to = saved_to
    response.draining.leaves_in.FromMilliseconds(int(seconds * 1000))
    return response
