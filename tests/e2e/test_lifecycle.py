"""How a server starts, tells of itself, and goes down."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import onnxruntime
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from carousel.v1 import models_pb2, models_pb2_grpc, server_pb2, server_pb2_grpc, sessions_pb2
from tests.support import models, raw
from tests.support.raw import output, step_request
from tests.support.server import run_server

SESSIONS = sessions_pb2.ListSessionsRequest()


def fetch(server, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{server.http}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def sample(server, name: str, **labels: str) -> float:
    _, text = fetch(server, "/metrics")
    for family in text_string_to_metric_families(text):
        for found in family.samples:
            if found.name == name and labels.items() <= found.labels.items():
                return found.value
    raise AssertionError(f"no {name}{labels}")


def test_probes_and_metrics(server, client):
    assert fetch(server, "/healthz") == (200, "ok\n")
    assert fetch(server, "/readyz") == (200, "ok\n")
    assert fetch(server, "/nothing")[0] == 404
    before = sample(server, "carousel_steps_total", model="sum")
    opened = client.open("sum", 3)
    client.step(step_request(opened, np.ones((3, 2))))
    assert sample(server, "carousel_steps_total", model="sum") == before + 3
    live = sample(server, "carousel_sessions", model="sum", state="live")
    assert live >= 3
    client.close(opened)
    assert sample(server, "carousel_sessions", model="sum", state="live") == live - 3
    assert sample(server, "carousel_queue_rows", model="sum") == 0
    assert sample(server, "carousel_build_info") == 1


def test_a_call_whose_client_has_gone_is_counted_as_such(server, client):
    stream = "/carousel.v1.SessionService/Stream"
    opened = client.open("sum")
    requests: queue.Queue[sessions_pb2.StreamRequest] = queue.Queue()
    requests.put(sessions_pb2.StreamRequest(step=step_request(opened, [[1, 1]])))
    call = client.stub.Stream(iter(requests.get, None))
    next(call)
    call.cancel()
    requests.put(None)  # ends the thread that reads them
    until = time.monotonic() + 10
    while f'code="CANCELLED",method="{stream}"' not in fetch(server, "/metrics")[1]:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_health_a_model(server, client):
    stub = health_pb2_grpc.HealthStub(client.channel)
    for name in ("", "sum", "lstm", "carousel.v1.SessionService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        stub.Check(health_pb2.HealthCheckRequest(service="nosuch"))


def test_reflection_lists_the_services(client):
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([request]))
    names = {service.name for service in answer.list_services_response.service}
    assert {
        "carousel.v1.SessionService",
        "carousel.v1.ModelService",
        "carousel.v1.ServerService",
        "grpc.health.v1.Health",
    } <= names


def test_models_and_info(client):
    stub = models_pb2_grpc.ModelServiceStub(client.channel)
    listed = stub.List(models_pb2.ListModelsRequest()).models
    assert [model.name for model in listed] == ["exploding", "lstm", "raises", "sum"]
    lstm = stub.Get(models_pb2.GetModelRequest(name="lstm")).model
    assert lstm.is_default
    assert lstm.state_bytes == 2 * 2 * 8 * 4
    assert [spec.name for spec in lstm.manifest.states] == ["h0", "c0", "h1", "c1"]
    info = server_pb2_grpc.ServerServiceStub(client.channel).Info(server_pb2.InfoRequest())
    assert info.server_id != 0
    assert not info.resumable
    assert info.limits.max_chunk == 20_000
    assert info.limits.max_message_bytes == 64 * 1024 * 1024


def test_the_newest_version_is_the_one_new_sessions_get(tmp_path):
    for version in ("9", "10"):
        models.put(tmp_path / "models", models.running_sum(), "sum", version)
    with (
        run_server(tmp_path / "models", log=tmp_path / "log") as server,
        raw.connect(server.address) as client,
    ):
        assert client.open("sum").version == "10"
        old = client.open("sum", version="9")
        assert old.version == "9"
        assert output(client.step(step_request(old, [[1, 1]]))).tolist() == [[1, 1]]


def test_settings_are_logged_and_come_from_flags_variables_and_a_file(tmp_path):
    models.put(tmp_path / "models", models.running_sum())
    config = tmp_path / "carousel.yaml"
    config.write_text("slots: 77\nmax_chunk: 5\n")
    flags = ("--config", str(config), "--max-chunk", "6", "--log-format", "json")
    with run_server(tmp_path / "models", *flags, log=tmp_path / "log") as server:
        settings = json.loads(server.log_text().splitlines()[0])
        assert settings["event"] == "settings"
        assert (settings["slots"], settings["max_chunk"]) == (77, 6)


def test_idle_sessions_expire_and_say_so(tmp_path):
    models.put(tmp_path / "models", models.running_sum(), "sum")
    with (
        run_server(tmp_path / "models", "--expire-after", "0.2", log=tmp_path / "log") as server,
        raw.connect(server.address) as client,
    ):
        opened = client.open("sum", ids=["sleeper"])
        until = time.monotonic() + 20
        while client.stub.List(SESSIONS).total and time.monotonic() < until:
            time.sleep(0.05)
        answer = client.step(step_request(opened, [[1, 1]]))
        assert raw.statuses(answer) == ["EXPIRED"]
        with pytest.raises(grpc.RpcError) as caught:
            client.attach("sum", ["sleeper"])
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "(idle for 0.2 s)" in caught.value.details()
        assert sample(server, "carousel_sessions_ended_total", reason="expired") == 1


def test_sigterm_answers_what_is_queued_tells_clients_and_stops(tmp_path):
    """A long chunk is under way: it is answered in full, behind the notice, before the end."""
    models.put(tmp_path / "models", models.lstm(hidden=128), "lstm")
    with (
        run_server(tmp_path / "models", "--max-chunk", "50000", log=tmp_path / "log") as server,
        raw.connect(server.address) as client,
    ):
        opened = client.open("lstm")
        stream = client.stream()
        steps = 20_000
        stream.send(step_request(opened, np.zeros((steps, 3)), lengths=[steps]))
        while sample(server, "carousel_queue_rows", model="lstm") == 0:
            time.sleep(0.01)
        status: list[int] = []
        stopper = threading.Thread(target=lambda: status.append(server.stop()))
        stopper.start()
        notice = stream.receive()
        assert notice.WhichOneof("body") == "draining"
        assert notice.draining.leaves_in.ToMilliseconds() == 5000
        answer = stream.receive().step
        assert np.frombuffer(answer.lengths, "<u4").tolist() == [steps]
        with pytest.raises(grpc.RpcError) as caught:
            stream.receive()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        stopper.join()
        assert status == [0]


def test_a_draining_server_takes_nothing_new(tmp_path):
    models.put(tmp_path / "models", models.lstm(hidden=128), "lstm")
    with (
        run_server(tmp_path / "models", "--max-chunk", "65536", log=tmp_path / "log") as server,
        raw.connect(server.address) as client,
    ):
        opened, other = client.open("lstm"), client.open("lstm")
        stream = client.stream()
        steps = 60_000
        stream.send(step_request(opened, np.zeros((steps, 3)), lengths=[steps]))
        while sample(server, "carousel_queue_rows", model="lstm") == 0:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert stream.receive().WhichOneof("body") == "draining"
        assert fetch(server, "/readyz")[0] == 503
        assert fetch(server, "/healthz")[0] == 200
        stream.send(step_request(other, np.zeros((1, 3)), request_id=2))
        refused = stream.receive().step
        assert (refused.id, refused.error.code) == (2, grpc.StatusCode.UNAVAILABLE.value[0])
        with pytest.raises(grpc.RpcError, match="going down"):
            client.open("lstm")
        server.process.send_signal(signal.SIGTERM)  # the second one: at once
        assert server.process.wait(10) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--models", "/nonexistent"], "there is no such folder"),
        ([], "--models (or CAROUSEL_MODELS) is missing"),
        (["--models", ".", "--slots", "0"], "--slots 0: a whole number from 1 to"),
        (["--models", ".", "--address", "0.0.0.0:8001"], "or say --insecure"),
        (["--models", ".", "--address", "nowhere"], "'nowhere' is no HOST:PORT"),
        (["--models", ".", "--config", "/nonexistent.yaml"], "there is no such file"),
    ],
)
def test_a_start_that_can_not_be_is_one_sentence(flags, words):
    command = [sys.executable, "-m", "carousel_server", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_address_in_use_is_one_sentence(server, repository):
    for flag, other in (("--address", "--metrics-address"), ("--metrics-address", "--address")):
        command = [
            *(sys.executable, "-m", "carousel_server", "--models", str(repository)),
            *(flag, server.address, other, "127.0.0.1:0"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert f"{flag} {server.address}: " in done.stderr
        assert "Traceback" not in done.stderr


def test_cuda_without_a_gpu_is_one_sentence(repository):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime offers CUDA")
    command = [sys.executable, "-m", "carousel_server", "--models", str(repository)]
    done = subprocess.run(
        [*command, "--device", "cuda"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "offers" in done.stderr
    assert "--device cpu" in done.stderr
