"""The composition root: from settings to a server that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import grpc

from carousel.v1 import sessions_pb2
from carousel_server import __version__, log
from carousel_server.catalog import Catalog
from carousel_server.engine.directory import Directory
from carousel_server.errors import ConfigError
from carousel_server.housekeeping import Housekeeping
from carousel_server.http import HttpServer
from carousel_server.keeping.keeping import Keeping
from carousel_server.keeping.leaving import leave_all
from carousel_server.keeping.starting import start_keeping
from carousel_server.lifecycle import Lifecycle
from carousel_server.loading import load_models
from carousel_server.metrics import Metrics
from carousel_server.reloader import Reloader
from carousel_server.rpc.build import Health, add_services, create_server
from carousel_server.rpc.models import ModelService
from carousel_server.rpc.server import ServerService
from carousel_server.rpc.sessions import SessionService
from carousel_server.rpc.snapshots import Snapshots, read_key
from carousel_server.rpc.steps import StepGate
from carousel_server.rpc.stream import OpenStreams
from carousel_server.runtime.device import choose_device
from carousel_server.serving import Serving, engine_limits
from carousel_server.settings import Settings, is_unspecified, split_address

_PROBE_SECONDS = 2.0  # an event loop that does not answer for so long is not alive


class App:
    """One server process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lifecycle = Lifecycle()
        self._metrics = Metrics(__version__)
        self._directory = Directory(settings.max_sessions)
        self._streams = OpenStreams()
        self._stop = asyncio.Event()
        self._failed = False
        self._loop = asyncio.get_running_loop()

    async def run(self, announce: Callable[[str], None]) -> int:
        """Load, serve, and return the exit status when the server was stopped.

        Args:
            announce: told "HOST:PORT HOST:PORT", the gRPC address first, once all is ready.

        Raises:
            CarouselError: the server can't start; the message says why.

        """
        settings = self._settings
        device, why = choose_device(settings.device)
        log.get().info("device chosen", device=str(device), why=why)
        loaded = await asyncio.to_thread(load_models, settings, device)
        catalog = Catalog()
        server = create_server(settings, self._metrics)
        grpc_address = _bind(server, settings.address)
        keeping = await self._keep(catalog, grpc_address)
        serving = Serving(settings, self._directory, self._metrics, keeping, self._crashed)
        while loaded:  # and keep none: it would stay after it was unloaded
            catalog.put(serving.start(loaded.pop()))
        self._metrics.watch(lambda: [(model.name, model.engine) for model in catalog.all()])

        health = Health(catalog)
        self._add_services(server, catalog, health, keeping)
        http = self._http_server()
        self._handle_signals()
        await server.start()
        await health.set(serving=True)
        reloader = Reloader(
            settings,
            device,
            catalog=catalog,
            serving=serving,
            metrics=self._metrics,
            on_change=lambda: health.set(serving=True),
        )
        self._loop.add_signal_handler(signal.SIGHUP, reloader.look_now)
        following = asyncio.create_task(reloader.run())
        self._housekeeping.start()
        http.start()
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        self._lifecycle.ready = True
        host, _ = split_address(settings.metrics_address)
        announce(f"{grpc_address} {_join(host, http.port)}")

        await self._stop.wait()
        following.cancel()
        await self._drain(catalog, health, keeping)
        self._housekeeping.stop()
        await server.stop(grace=1.0)
        for model in catalog.all():
            await model.driver.stop()
        http.stop()
        log.get().info("stopped", failed=self._failed)
        return int(self._failed)

    async def _keep(self, catalog: Catalog, bound: str) -> Keeping:
        """Begin to keep sessions safe."""
        settings = self._settings
        host, _ = split_address(bound)
        # "Every address of this machine" is none that another machine could call.
        self._advertised = settings.advertise or ("" if is_unspecified(host) else bound)
        keeping = await start_keeping(
            settings,
            server_id=self._lifecycle.server_id,
            address=self._advertised,
            observer=self._metrics.keeping,
            on_lapse=self._verify,
        )
        self._housekeeping = Housekeeping(settings, catalog, keeping)
        self._metrics.watch_keeping(lambda: keeping.waiting_bytes)
        return keeping

    def _verify(self) -> None:
        self._housekeeping.verify()

    def _add_services(
        self, server: grpc.aio.Server, catalog: Catalog, health: Health, keeping: Keeping
    ) -> None:
        gate = StepGate(
            catalog,
            lifecycle=self._lifecycle,
            limits=engine_limits(self._settings),
            clock=time.monotonic,
        )
        add_services(
            server,
            sessions=SessionService(
                catalog,
                self._directory,
                gate=gate,
                streams=self._streams,
                lifecycle=self._lifecycle,
                keeping=keeping,
                snapshots=Snapshots(read_key(self._settings.snapshot_key_file)),
            ),
            models=ModelService(catalog),
            info=ServerService(
                self._settings,
                self._lifecycle,
                __version__,
                address=self._advertised,
                resumable=keeping.shared,
            ),
            health_service=health,
        )

    def _http_server(self) -> HttpServer:
        address = self._settings.metrics_address
        try:
            return HttpServer(
                address,
                self._metrics.registry,
                alive=self._loop_answers,
                ready=lambda: self._lifecycle.ready and not self._lifecycle.draining,
            )
        except OSError as error:
            raise ConfigError(f"--metrics-address {address}: {error.strerror}") from error

    def _loop_answers(self) -> bool:
        """Whether the event loop still turns; called on the HTTP server's threads."""
        try:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(_PROBE_SECONDS)
        except (TimeoutError, RuntimeError):
            return False
        return not self._failed

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            log.get().warning("stopping at once", signal=number.name)
            os._exit(128 + number)
        log.get().info("stopping", signal=number.name)
        self._stop.set()

    def _crashed(self, error: BaseException) -> None:
        log.get().error("the engine failed", exc_info=error)
        self._failed = True
        self._stop.set()

    async def _drain(self, catalog: Catalog, health: Health, keeping: Keeping) -> None:
        """Take nothing new, finish what is queued, save the sessions, tell the clients."""
        self._lifecycle.draining = True
        await health.set(serving=False)
        seconds = self._settings.drain_seconds
        self._streams.notify(lambda: _notice(seconds, keeping.place if keeping.shared else ""))
        until = time.monotonic() + seconds
        await _poll(lambda: all(model.driver.idle for model in catalog.all()), until)
        if keeping.shared and not self._failed:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._loop.time() + max(until - time.monotonic(), 1)):
                    for model in catalog.all():
                        await leave_all(keeping, model)
        self._streams.end()
        await _poll(lambda: not len(self._streams), until)
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


def _bind(server: grpc.aio.Server, address: str) -> str:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(f"--address {address}: it can't be bound; is it in use?") from error
    return _join(split_address(address)[0], port)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
