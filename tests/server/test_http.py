"""The HTTP side door: metrics and probes."""

from __future__ import annotations

import errno
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from carousel_server import http as module
from carousel_server.http import HttpServer


class Probed:
    """A server whose answers the test chooses."""

    def __init__(self, address: str) -> None:
        self.alive = self.ready = True
        registry = CollectorRegistry()
        Counter("things", "Things", registry=registry).inc(3)
        self.server = HttpServer(
            address, registry, alive=lambda: self.alive, ready=lambda: self.ready
        )
        self.host = address.rpartition(":")[0]

    def get(self, path: str) -> tuple[int, str]:
        url = f"http://{self.host}:{self.server.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0"])
def probed(request) -> Iterator[Probed]:
    try:
        probed = Probed(request.param)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        pytest.skip(f"this machine has no {request.param}")
    probed.server.start()
    yield probed
    probed.server.stop()


def test_metrics_can_be_parsed(probed):
    status, text = probed.get("/metrics")
    assert status == 200
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["things_total"] == 3


def test_probes_say_how_things_are(probed):
    assert probed.get("/healthz") == probed.get("/readyz") == (200, "ok\n")
    probed.ready = False
    assert probed.get("/readyz") == (503, "not ok\n")
    assert probed.get("/healthz")[0] == 200
    probed.alive = False
    assert probed.get("/healthz") == (503, "not ok\n")


def test_other_paths_are_not_there(probed):
    for path in ("/", "/metrics/", "/nosuch"):
        assert probed.get(path) == (404, "there are /metrics, /healthz and /readyz\n")


def test_an_address_in_use():
    taken = HttpServer("127.0.0.1:0", CollectorRegistry(), alive=lambda: True, ready=lambda: True)
    taken.start()
    with pytest.raises(OSError, match="in use"):
        Probed(f"127.0.0.1:{taken.port}")
    taken.stop()


def test_silent_connections_are_let_go_without_a_word(monkeypatch, capfd):
    monkeypatch.setattr(module._QuietHandler, "timeout", 0.05)
    probed = Probed("127.0.0.1:0")
    probed.server.start()
    with socket.create_connection(("127.0.0.1", probed.server.port), timeout=10) as silent:
        assert probed.get("/healthz")[0] == 200, "others are served meanwhile"
        assert silent.recv(1) == b"", "the server hangs up"
    time.sleep(0.05)  # for the thread to say what it has to say
    probed.server.stop()
    assert capfd.readouterr().err == ""
