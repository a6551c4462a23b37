"""Dealings with a store for engines on the bench."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from carousel_server.keeping.keeper import Keeper
from carousel_server.keeping.keeping import EngineKeeper, Keeping
from carousel_server.keeping.lease import Lease
from carousel_server.keeping.observer import KeepingObserver
from carousel_server.keeping.records import Recorder
from carousel_server.spec import ModelSpec
from carousel_server.store.interface import Owner, Store
from carousel_server.store.memory import MemoryStore


@asynccontextmanager
async def keeping(
    store: Store | None = None, *, server: str = "here", lease: Lease | None = None
) -> AsyncIterator[Keeping]:
    """Keep sessions in a store, that of the process where none is given."""
    store = store or MemoryStore(ttl_seconds=0)
    owner = Owner(server, f"{server}:8001")
    keeper = Keeper(
        store,
        owner,
        loop=asyncio.get_running_loop(),
        max_bytes=1 << 24,
        observer=KeepingObserver(),
    )
    kept = Keeping(store, owner, keeper, lease)
    try:
        yield kept
    finally:
        await kept.stop(5)


def engine_keeper(kept: Keeping, spec: ModelSpec, *, version: str = "1") -> EngineKeeper:
    """Return what takes one engine's checkpoints to the store."""
    return kept.for_engine(Recorder("m", version, "0" * 64, spec))
