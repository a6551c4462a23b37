"""A Service's address, as kube-proxy makes it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

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
        self._updates: set[asyncio.Task[None]] = set()
        self._pipes: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    def changed(self) -> None:
        """Hear, soon, of a pod that has become ready or is not any more."""
        task = asyncio.get_running_loop().create_task(self._update())
        self._updates.add(task)
        task.add_done_callback(self._updates.discard)

    async def stop(self) -> None:
        """Cut everything."""
        if self._server:
            self._server.close()
        tasks = [*self._updates, *self._pipes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _update(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, _PROPAGATION_SECONDS))
        self._known = self._ready()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._known:
            host, _, port = self._chance.choice(self._known).rpartition(":")
            with suppress(OSError):
                there, back = await asyncio.open_connection(host, int(port))
                pipes = [_pipe(reader, back), _pipe(there, writer)]
                tasks = [asyncio.create_task(pipe) for pipe in pipes]
                self._pipes.update(tasks)
                await asyncio.wait(tasks)
                self._pipes.difference_update(tasks)
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
