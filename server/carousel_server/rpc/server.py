"""ServerService: who the server is, and what it takes."""

from __future__ import annotations

from typing import Any

from carousel.v1 import server_pb2, server_pb2_grpc
from carousel_server.lifecycle import Lifecycle
from carousel_server.settings import Settings

Context = Any  # grpc.aio.ServicerContext


class ServerService(server_pb2_grpc.ServerServiceServicer):
    """Tells a client whom it talks to."""

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        version: str,
        *,
        address: str,
        resumable: bool,
    ) -> None:
        self._lifecycle = lifecycle
        self._address = address
        self._resumable = resumable
        self._version = version
        self._limits = server_pb2.Limits(
            max_message_bytes=settings.max_message_bytes,
            max_chunk=settings.max_chunk,
            max_sessions=settings.max_sessions,
            queue_rows=settings.queue_rows,
            queue_bytes=settings.queue_bytes,
            expire_after_ms=int(settings.expire_after * 1000),
        )

    async def Info(
        self, request: server_pb2.InfoRequest, context: Context
    ) -> server_pb2.InfoResponse:
        """Return identity and limits."""
        return server_pb2.InfoResponse(
            version=self._version,
            server_id=self._lifecycle.server_id,
            advertised_address=self._address,
            resumable=self._resumable,
            limits=self._limits,
            draining=self._lifecycle.draining,
        )
