"""A Service's address, as kube-proxy makes it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress

#: What it takes until whoever leads clients to a pod has heard that it comes or goes, at most.
_PROPAGATION_SECONDS = 1.0


class ClusterIp:
    """A Service's address: each *connection* goes to one of the pods that are known to be ready.

    What is known lags behind what is so; connections that are made stay where they are.
    """

    def __init__(self, ready: Callable[[], list[str]], chance: random.Random) -> None:
        """Know what is `ready` now, and later what has `changed`."""
        self.address = ""
        self._ready = ready
        self._chance = chance
        self._known = ready()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    def changed(self) -> None:
        """Hear, soon, of a pod that has become ready or is not any more."""
        self._begin(self._update())

    async def stop(self) -> None:
        """Cut everything."""
        if self._server:
            self._server.close()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes sockets in a turn of its own

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _update(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, _PROPAGATION_SECONDS))
        self._known = self._ready()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):
            if not self._known:
                return
            host, _, port = self._chance.choice(self._known).rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
            with closing(back):
                await asyncio.gather(_pipe(reader, back), _pipe(there, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, and the end of it."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
