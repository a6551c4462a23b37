"""A TCP proxy that cuts connections at random places, in either direction."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

_READ = 1 << 14
_ENDS_WITH_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


@dataclass
class Cutter:
    """Forwards connections; each is cut after a random number of bytes, one way or the other."""

    target: tuple[str, int]
    chance: random.Random
    mean_bytes: float
    cutting: bool = False
    cuts: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, repr=False)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set, repr=False)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self._writers.add(writer)
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Give all connections up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in list(self._writers):  # of tasks that never came to run
            self._break(writer)
        await asyncio.sleep(0)  # the loop closes sockets in a turn of its own

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection(*self.target)
        except OSError:
            self._break(writer)
            return
        both = (writer, other_writer)
        for one in both:  # what was forwarded has left this process: a cut is where it says
            one.transport.set_write_buffer_limits(0)
        left = self.chance.expovariate(1 / self.mean_bytes)
        asked = self.chance.random() < 0.5
        ways = [
            asyncio.create_task(self._forward(reader, other_writer, left if asked else None)),
            asyncio.create_task(self._forward(other_reader, writer, None if asked else left)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for one in both:
                self._break(one)
            await asyncio.gather(*ways, return_exceptions=True)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: float | None
    ) -> None:
        """Forward until the end, or until `left` bytes are through and connections are cut."""
        through = 0
        while data := await reader.read(_READ):
            if self.cutting and left is not None and through + len(data) >= left:
                writer.write(data[: max(int(left) - through, 0)])
                await writer.drain()
                self.cuts += 1
                return
            through += len(data)
            writer.write(data)
            await writer.drain()

    def _break(self, writer: asyncio.StreamWriter) -> None:
        """End one side: with a reset, or as if its process had closed it."""
        made: socket.socket | None = writer.get_extra_info("socket")
        if made is not None and made.fileno() >= 0 and self.chance.random() < 0.5:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ENDS_WITH_RESET)
        writer.transport.abort()
        self._writers.discard(writer)


@asynccontextmanager
async def run_cutters(
    ports: Sequence[int], targets: Sequence[int], chance: random.Random, *, mean_bytes: float
) -> AsyncIterator[list[Cutter]]:
    """Run a proxy on each port, in front of the target beside it; nothing is cut at first."""
    async with AsyncExitStack() as stack:
        cutters = []
        for port, target in zip(ports, targets, strict=True):
            cutter = Cutter(("127.0.0.1", target), random.Random(chance.random()), mean_bytes)
            listening = await asyncio.start_server(cutter.accept, "127.0.0.1", port)
            stack.push_async_callback(cutter.end)
            stack.callback(listening.close)
            cutters.append(cutter)
        yield cutters
