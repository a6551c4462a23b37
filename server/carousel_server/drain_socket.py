"""How `carousel-server drain` asks the server beside it to drain: a Unix socket without a file.

The name of the socket is of Linux's abstract kind, so no folder has to be writable, and belongs to
the network namespace, which the containers of a pod share. Both ends ask the kernel who the other
one is: it must be the same user, or root. Over HTTP, the address of whoever asks would have to do,
and behind a proxy in the same pod everybody's is the pod's own.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable

from carousel_server import log
from carousel_server.addresses import is_unspecified, split_address
from carousel_server.errors import CarouselError

_SAID = b"drain\n"
_DONE = b"drained\n"
_READ_SECONDS = 10.0
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class DrainError(CarouselError):
    """The server could not be asked, or did not answer."""


class DrainSocket:
    """The server's end."""

    def __init__(self, metrics_address: str, drain: Callable[[], Awaitable[None]]) -> None:
        """Listen, once started, for those who know the server by its `--metrics-address`.

        Args:
            metrics_address: HOST:PORT that the server listens at.
            drain: begins to drain, if nobody has, and returns when that is done.

        """
        self._name = _name(metrics_address)
        self._drain = drain
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to listen; where that can't be, say so, and go on without."""
        if sys.platform != "linux":
            return
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._name)
        except OSError as error:
            log.get().warning("`carousel-server drain` won't work", why=str(error))

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            uid = _peer(writer.get_extra_info("socket"))
            if uid not in (0, os.geteuid()):
                log.get().warning("refused to drain for another user", uid=uid)
                writer.write(b"the server runs as another user\n")
            elif await asyncio.wait_for(reader.readline(), _READ_SECONDS) == _SAID:
                log.get().info("asked to drain")
                await self._drain()
                writer.write(_DONE)
            await writer.drain()
        except (TimeoutError, OSError):
            pass  # whoever asked has gone
        finally:
            writer.close()


def ask_to_drain(metrics_address: str, seconds: float) -> float:
    """Have the server with that `--metrics-address` drain; return how long it took, in seconds.

    A server that ends meanwhile has drained, too.

    Raises:
        DrainError: there is none, it belongs to another user, or it took longer than `seconds`.

    """
    if sys.platform != "linux":
        raise DrainError("asking a server to drain takes Linux; send it SIGTERM")
    began = time.monotonic()
    where = f"a server with --metrics-address {metrics_address}"
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(seconds)
        try:
            asked.connect(_name(metrics_address))
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise DrainError(f"{where} can't be asked: {error.strerror}") from error
            raise DrainError(
                f"{where} was expected on this machine, and there is none that serves"
            ) from error
        uid = _peer(asked)
        if os.geteuid() not in (0, uid) and uid != 0:
            raise DrainError(f"{where} runs as another user ({uid})")
        try:
            asked.sendall(_SAID)
            with asked.makefile("rb") as answers:
                answer = answers.readline()
        except TimeoutError as error:
            raise DrainError(f"{where} has not drained within {seconds:g} s") from error
        except OSError:
            answer = b""
    if answer not in (_DONE, b""):
        raise DrainError(answer.decode("utf-8", "replace").strip())
    return time.monotonic() - began


def _name(metrics_address: str) -> str:
    host, port = split_address(metrics_address)
    host = "*" if is_unspecified(host) else host
    return f"\0carousel-server/{host}/{port}"


def _peer(connected: socket.socket) -> int:
    """Return the user at the other end, as the kernel knows it."""
    data = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(data)[1]
    return uid
