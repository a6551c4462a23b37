"""From settings to a server's dealings with the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from carousel_server.keeping.keeper import Keeper
from carousel_server.keeping.keeping import Keeping
from carousel_server.keeping.lease import Lease
from carousel_server.keeping.observer import KeepingObserver
from carousel_server.settings import Settings
from carousel_server.store.interface import Owner
from carousel_server.store.opening import open_store

# A record outlives the session's own expiry by so much, so that it is the server that ends it.
_SLACK_SECONDS = 60.0


async def start_keeping(
    settings: Settings,
    *,
    server_id: int,
    address: str,
    observer: KeepingObserver,
    on_lapse: Callable[[], None],
) -> Keeping:
    """Open the store, and take a lease where it is shared; say so if it does not answer.

    Args:
        settings: which store, and how long leases and records live.
        server_id: this process.
        address: where clients reach it; "" where nobody knows.
        observer: hears what becomes of checkpoints.
        on_lapse: called on the loop when the lease had run out.

    Raises:
        ConfigError: the setting names no store.

    """
    loop = asyncio.get_running_loop()
    ttl = settings.expire_after + _SLACK_SECONDS if settings.expire_after else 0.0
    store = open_store(settings.store, ttl_seconds=ttl)
    owner = Owner(f"{server_id:016x}", address)
    lease = None
    if store.shared:
        lease = Lease(
            open_store(settings.store, ttl_seconds=ttl),
            owner,
            seconds=settings.lease_seconds,
            on_lapse=partial(_call_on, loop, on_lapse),
        )
    keeper = Keeper(
        store, owner, loop=loop, max_bytes=settings.store_buffer_bytes, observer=observer
    )
    keeping = Keeping(store, owner, keeper, lease)
    if lease:
        # A host that is mistyped shows now. The server starts all the same: it may be one of many
        # that are started anew while the store is away.
        await asyncio.gather(asyncio.to_thread(lease.start), keeping.look())
    return keeping


def _call_on(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(call)
