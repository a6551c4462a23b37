"""`carousel-server drain`, as Kubernetes' preStop runs it: before SIGTERM, beside the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import carousel_client as carousel
from tests.support import raw
from tests.support.raw import output, step_request
from tests.support.server import run_server

TICK = np.ones(2, np.float32)
SERVER = (sys.executable, "-m", "carousel_server")


def drain(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CAROUSEL_")}
    return subprocess.run(
        [*SERVER, "drain", *flags],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def probe(server, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{server.http}{path}", timeout=10) as page:
            return page.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_drained_server_stays_and_refuses_until_it_is_ended(repository, tmp_path):
    with (
        run_server(repository, log=tmp_path / "log") as server,
        raw.connect(server.address) as ours,
    ):
        opened = ours.open("sum")
        stream = ours.stream()
        assert output(stream.one(step_request(opened, [TICK]))).tolist() == [[1, 1]]

        done = drain("--at-least", "0", CAROUSEL_METRICS_ADDRESS=server.http)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert stream.receive().HasField("draining")
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            stream.receive()

        assert server.process.poll() is None
        assert (probe(server, "/healthz"), probe(server, "/readyz")) == (200, 503)
        with raw.connect(server.address) as other:  # connects all the same, and is told in words
            calls = (
                lambda: other.open("sum"),
                lambda: other.attach("sum", opened.ids),
                # Were it taken, whoever comes back with another one would keep the server.
                lambda: other.stream().ask(step_request(opened, [TICK])),
            )
            for call in calls:
                with pytest.raises(grpc.RpcError, match="takes no new work") as caught:
                    call()
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            health = health_pb2_grpc.HealthStub(other.channel)
            answer = health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING

        again = drain("--metrics-address", server.http, "--at-least", "0")
        assert again.returncode == 0, "who asks again hears that it is done"
        assert server.stop() == 0
        nobody = drain("--metrics-address", server.http)
        assert nobody.returncode == 1
        assert nobody.stderr.count("\n") == 1
        assert "there is none that serves" in nobody.stderr


def test_sigterm_during_a_drain_ends_the_server_once_it_has_drained(repository, tmp_path):
    with (
        run_server(repository, log=tmp_path / "log") as server,
        raw.connect(server.address) as ours,
    ):
        opened = ours.open("sum")
        stream = ours.stream()
        stream.one(step_request(opened, [TICK]))
        asked = subprocess.Popen(
            [*SERVER, "drain", "--at-least", "0", "--metrics-address", server.http]
        )
        assert stream.receive().HasField("draining")
        server.process.send_signal(signal.SIGTERM)
        assert asked.wait(30) == 0
        assert server.process.wait(30) == 0
        log = server.log_text()
        assert log.count('"event": "drained"') == 1
        assert "stopping at once" not in log


def test_sigterm_while_models_are_loaded_ends_the_server(repository, tmp_path):
    """As a container's first process it would be deaf to it otherwise."""
    log = (tmp_path / "log").open("w")
    flags = ("--models", str(repository), "--address", "127.0.0.1:0")
    with (
        log,
        subprocess.Popen(
            [*SERVER, *flags, "--metrics-address", "127.0.0.1:0", "--log-format", "json"],
            stdout=subprocess.PIPE,
            stderr=log,
        ) as server,
    ):
        end = time.monotonic() + 30
        while '"device chosen"' not in (tmp_path / "log").read_text():
            assert time.monotonic() < end
            time.sleep(0.001)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) in (0, 128 + signal.SIGTERM)  # 0: it was quick, and drained


def test_sessions_leave_for_another_server_while_the_first_one_stays(repository, tmp_path):
    flags = ("--store", f"file:{tmp_path / 'store'}")
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(run_server(repository, *flags, log=tmp_path / f"log{number}"))
            for number in range(2)
        )
        events: list[carousel.FailoverEvent] = []
        client = stack.enter_context(
            carousel.connect([first.address, second.address], on_failover=events.append)
        )
        group = client.open_many("sum", 20)
        done = threading.Event()
        asked = threading.Thread(
            target=lambda: (drain("--metrics-address", first.http, "--at-least", "0"), done.set())
        )
        steps = 0
        while not events:
            if steps == 20:
                asked.start()
            steps += 1
            assert group.step(np.ones((20, 2), np.float32)).tolist() == [[steps, steps]] * 20
        assert done.wait(30)
        asked.join()
        assert events[0].targets == (second.address,)
        assert first.process.poll() is None
