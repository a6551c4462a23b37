"""Ids of sessions on their way between the store and an engine, one task at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager


class Passage:
    """Lets one task at a time bring a session in.

    What the store says of a session is true only until somebody else of this server asks it to
    make, or to claim, the same one. Used on the event loop alone.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def of(self, ids: Collection[str]) -> AsyncIterator[None]:
        """Keep others from these ids."""
        while busy := [event for name in ids if (event := self._under_way.get(name))]:
            await busy[0].wait()
        over = asyncio.Event()
        self._under_way.update(dict.fromkeys(ids, over))
        try:
            yield
        finally:
            for name in ids:
                del self._under_way[name]
            over.set()
