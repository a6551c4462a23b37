"""The HTTP side door: /metrics for Prometheus, /healthz and /readyz for probes."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from carousel_server.addresses import split_address

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

Check = Callable[[], bool]


class HttpServer:
    """Serves on threads of its own, so that a scrape never waits for a tick, nor a tick for it."""

    def __init__(
        self, address: str, registry: CollectorRegistry, *, alive: Check, ready: Check
    ) -> None:
        """Bind to the address; `start` serves.

        Args:
            address: HOST:PORT; port 0 picks a free one.
            registry: what /metrics shows.
            alive: whether the process does its work; otherwise /healthz says 503.
            ready: whether it takes new work; otherwise /readyz says 503.

        Raises:
            OSError: the address can't be bound.

        """
        metrics = make_wsgi_app(registry)
        checks = {"/healthz": alive, "/readyz": ready}

        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                page: Iterable[bytes] = metrics(environ, start_response)
                return page
            if check := checks.get(path):
                good = check()
                start_response("200 OK" if good else "503 Service Unavailable", [*_TEXT])
                return [b"ok\n" if good else b"not ok\n"]
            start_response("404 Not Found", [*_TEXT])
            return [b"there are /metrics, /healthz and /readyz\n"]

        host, port = split_address(address)
        self._server = make_server(host, port, app, _server_class(host), _QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that it is bound to."""
        return self._server.server_port

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


_TEXT = [("Content-Type", "text/plain; charset=utf-8")]


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write nothing of clients that say nothing or hang up."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _ThreadingServer6(_ThreadingServer):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    timeout = 10  # seconds for a request; a silent connection must not keep a thread

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Write nothing: probes come every few seconds."""


def _server_class(host: str) -> type[WSGIServer]:
    return _ThreadingServer6 if ":" in host else _ThreadingServer
