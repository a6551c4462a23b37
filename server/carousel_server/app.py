"""The composition root: from settings to a server that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable

import grpc

from carousel_server import __version__, log
from carousel_server.addresses import is_unspecified, join_address, split_address
from carousel_server.catalog import Catalog
from carousel_server.certificates import Certificate, CertificateFiles
from carousel_server.device_metrics import DeviceCollector
from carousel_server.drain_socket import DrainSocket
from carousel_server.draining import drain
from carousel_server.engine.directory import Directory
from carousel_server.errors import ConfigError
from carousel_server.housekeeping import Housekeeping
from carousel_server.http import HttpServer
from carousel_server.keeping.keeping import Keeping
from carousel_server.keeping.starting import start_keeping
from carousel_server.lifecycle import Lifecycle
from carousel_server.loading import load_models
from carousel_server.metrics import Metrics
from carousel_server.reloader import Reloader
from carousel_server.rotation import Rotation
from carousel_server.rpc.build import Health, add_services, create_server
from carousel_server.rpc.models import ModelService
from carousel_server.rpc.server import ServerService
from carousel_server.rpc.sessions import SessionService
from carousel_server.rpc.snapshots import Snapshots, read_key
from carousel_server.rpc.steps import StepGate
from carousel_server.rpc.stream import OpenStreams
from carousel_server.rpc.tls import Credentials
from carousel_server.runtime.device import choose_device
from carousel_server.serving import Serving, engine_limits
from carousel_server.settings import Settings
from carousel_server.spans import Tracing
from carousel_server.tracing import open_tracing

_FAILED_SECONDS = 1.0  # to drain after an engine has failed, for the others
_PROBE_SECONDS = 2.0  # an event loop that does not answer for so long is not alive


class App:
    """One server process."""

    def __init__(
        self,
        settings: Settings,
        *,
        metrics: Metrics | None = None,
        working: set[object] | None = None,
    ) -> None:
        """Serve nothing yet.

        Args:
            settings: what was chosen.
            metrics: what counts; the server's own unless others are given.
            working: engines are in it while their threads are at work.

        """
        self._working = set() if working is None else working
        self._settings = settings
        self._lifecycle = Lifecycle()
        self._metrics = metrics or Metrics(__version__)
        self._directory = Directory(settings.max_sessions)
        self._streams = OpenStreams()
        self._leave = asyncio.Event()  # drain
        self._drained = asyncio.Event()
        self._stop = asyncio.Event()  # and end the process
        self._failed = False
        self._on_hangup: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()

    async def run(self, announce: Callable[[str], None]) -> int:
        """Load, serve, and return the exit status when the server was stopped.

        Args:
            announce: told "HOST:PORT HOST:PORT", the gRPC address first, once all is ready.

        Raises:
            CarouselError: the server can't start; the message says why.

        """
        settings = self._settings
        self._handle_signals()
        tls = CertificateFiles.of(settings)
        certificate = tls.read() if tls else None
        device, why = choose_device(settings.device)
        log.get().info("device chosen", device=str(device), why=why)
        loaded = await asyncio.to_thread(load_models, settings, device)
        catalog = Catalog()
        tracing = open_tracing(settings, version=__version__, server_id=self._lifecycle.server_id)
        server = create_server(settings, self._metrics, tracing)
        credentials = Credentials(certificate) if certificate else None
        grpc_address = _bind(server, settings.address, credentials)
        keeping = await self._keep(catalog, grpc_address)
        serving = Serving(
            settings,
            self._directory,
            self._metrics,
            keeping,
            on_crash=self._crashed,
            working=self._working,
        )
        while loaded:  # and keep none: it would stay after it was unloaded
            catalog.put(serving.start(loaded.pop()))
        self._watch(catalog, serving)

        health = Health(catalog)
        self._add_services(server, catalog, health, keeping, tracing)
        http = self._http_server()
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
        following = [asyncio.create_task(reloader.run())]
        self._on_hangup.append(reloader.look_now)
        if tls and certificate and credentials:
            following.append(asyncio.create_task(self._rotate(tls, certificate, credentials)))
        self._housekeeping.start()
        http.start()
        host, _ = split_address(settings.metrics_address)
        metrics_address = join_address(host, http.port)
        asked = DrainSocket(metrics_address, self._drain_and_wait)
        await asked.start()
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        self._lifecycle.ready = True
        announce(f"{grpc_address} {metrics_address}")

        await self._leave.wait()
        for task in following:
            task.cancel()
        await drain(
            # An engine that failed answers nothing any more.
            min(settings.drain_seconds, _FAILED_SECONDS)
            if self._failed
            else settings.drain_seconds,
            lifecycle=self._lifecycle,
            streams=self._streams,
            catalog=catalog,
            health=health,
            keeping=keeping,
            save=not self._failed,
        )
        self._housekeeping.stop()
        self._drained.set()
        log.get().info("drained")
        await self._stop.wait()
        await _end_service(server, catalog, tracing)
        asked.stop()
        http.stop()
        log.get().info("stopped", failed=self._failed)
        return int(self._failed)

    async def _rotate(
        self, files: CertificateFiles, certificate: Certificate, credentials: Credentials
    ) -> None:
        """Follow the certificate's files."""
        rotation = Rotation(files, certificate, credentials.use, self._metrics.certificate())
        self._on_hangup.append(rotation.look_now)
        await rotation.run()

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

    def _watch(self, catalog: Catalog, serving: Serving) -> None:
        """Have what there is to count read whenever somebody scrapes."""
        self._metrics.watch(lambda: [(model.name, model.engine) for model in catalog.all()])
        if serving.on_device():
            self._metrics.registry.register(DeviceCollector(serving.on_device))

    def _verify(self) -> None:
        self._housekeeping.verify()

    def _add_services(
        self,
        server: grpc.aio.Server,
        catalog: Catalog,
        health: Health,
        keeping: Keeping,
        tracing: Tracing | None,
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
                tracing=tracing,
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
        self._loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    def _signalled(self, number: signal.Signals) -> None:
        # Before it is ready there is nothing to drain; and loading can't be interrupted.
        if self._stop.is_set() or not self._lifecycle.ready:
            log.get().warning("stopping at once", signal=number.name)
            os._exit(128 + number)
        log.get().info("stopping", signal=number.name)
        self._end()

    def _hung_up(self) -> None:
        for look_now in self._on_hangup:
            look_now()

    async def _drain_and_wait(self) -> None:
        """Drain, and stay: what comes is refused in words until somebody stops the process."""
        self._leave.set()
        await self._drained.wait()

    def _end(self) -> None:
        self._leave.set()
        self._stop.set()

    def _crashed(self, error: BaseException) -> None:
        log.get().error("the engine failed", exc_info=error)
        self._failed = True
        self._end()


async def _end_service(server: grpc.aio.Server, catalog: Catalog, tracing: Tracing | None) -> None:
    """End RPCs, engines, and what is told of them."""
    await server.stop(grace=1.0)
    for model in catalog.all():
        await model.driver.stop()
    if tracing:
        await asyncio.to_thread(tracing.close)


def _bind(server: grpc.aio.Server, address: str, credentials: Credentials | None) -> str:
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials.credentials)
    except RuntimeError as error:
        raise ConfigError(f"--address {address}: it can't be bound; is it in use?") from error
    return join_address(split_address(address)[0], port)
