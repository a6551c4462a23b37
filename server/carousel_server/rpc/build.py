"""Put the gRPC server together: services, health, reflection, options."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from carousel.v1 import (
    models_pb2,
    models_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)
from carousel_server.catalog import Catalog
from carousel_server.metrics import Metrics
from carousel_server.rpc.interceptors import CallInterceptor
from carousel_server.rpc.models import ModelService
from carousel_server.rpc.server import ServerService
from carousel_server.rpc.sessions import SessionService
from carousel_server.settings import Settings
from carousel_server.spans import Tracing

_MS = 1000


class Health:
    """grpc.health.v1: the server as "", every service and every model by its name."""

    def __init__(self, catalog: Catalog) -> None:
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._catalog = catalog
        self._told: set[str] = set()

    async def set(self, *, serving: bool) -> None:
        """Tell watchers and probes whether the server takes work, and for which models."""
        kind = health_pb2.HealthCheckResponse
        models = {model.name for model in self._catalog.all() if not model.retired}
        names = {"", *_services(), *models}
        self._told |= names
        for name in sorted(self._told):
            up = serving and name in names
            await self.servicer.set(name, kind.SERVING if up else kind.NOT_SERVING)


def create_server(
    settings: Settings, metrics: Metrics, tracing: Tracing | None = None
) -> grpc.aio.Server:
    """Return the server without services, not yet bound to an address."""
    return grpc.aio.server(
        interceptors=[CallInterceptor(metrics, tracing)],
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            # Two servers on one port would share its connections at random, each with half of the
            # sessions: the second one is to fail instead.
            ("grpc.so_reuseport", 0),
            # A client that died without a word is noticed, and its stream ended; clients may ask
            # as often as the SDK does.
            ("grpc.keepalive_time_ms", 30 * _MS),
            ("grpc.keepalive_timeout_ms", 10 * _MS),
            # gRPC's own pings otherwise wait for 60 s, and keepalive's behind them.
            ("grpc.http2.ping_timeout_ms", 10 * _MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5 * _MS),
            ("grpc.http2.max_ping_strikes", 0),
        ],
    )


def add_services(
    server: grpc.aio.Server,
    *,
    sessions: SessionService,
    models: ModelService,
    info: ServerService,
    health_service: Health,
) -> None:
    """Add all services to a server that has not started."""
    sessions_pb2_grpc.add_SessionServiceServicer_to_server(sessions, server)
    models_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
    server_pb2_grpc.add_ServerServiceServicer_to_server(info, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_service.servicer, server)
    reflection.enable_server_reflection(
        [*_services(), health.SERVICE_NAME, reflection.SERVICE_NAME], server
    )


def _services() -> list[str]:
    return [
        service.full_name
        for file in (sessions_pb2, models_pb2, server_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    ]
