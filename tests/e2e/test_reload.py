"""New versions under live streams: a real server, real files, no restart."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx import helper

import carousel_client as carousel
from carousel.v1 import models_pb2, models_pb2_grpc, sessions_pb2
from tests.e2e.test_lifecycle import sample
from tests.support import models, raw
from tests.support.raw import applied, output, statuses, step_request
from tests.support.server import run_server

FAST = ("--reload-seconds", "0.1")


def scaled_sum(factor: float, *, state: str = "s"):
    """y = factor * s', s' = s + x: exact for small numbers, and each version known by its y."""
    nodes = [
        helper.make_node("Add", ["x", state], [f"{state}_out"]),
        helper.make_node("Mul", [f"{state}_out", "factor"], ["y"]),
    ]
    return models.model(
        nodes,
        inputs=[models.tensor("x", 1)],
        outputs=[models.tensor("y", 1)],
        states=[models.state(state, 1)],
        constants={"factor": np.float32(factor)},
    )


@contextmanager
def serving(folder, *flags):
    put(folder, "1", scaled_sum(1))
    with (
        run_server(folder / "models", *flags, log=folder / "log") as server,
        raw.connect(server.address) as client,
    ):
        yield server, client
        assert server.process.poll() in (None, 0), server.log_text()
        assert "Traceback" not in server.log_text()


def put(folder, version, made, name="sum"):
    """Put a version into the repository as the manual says: whole, and then under its name."""
    path = folder / "models" / name / version / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(".model.onnx")
    hidden.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    hidden.rename(path)
    return path


def wait(condition, server):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, server.log_text()
        time.sleep(0.02)


def attach_when_it_may(client, model, ids, server):
    """Attach, once the server's lease lets it take sessions over."""
    found = []

    def attach():
        try:
            found.append(client.attach(model, ids))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        return found

    wait(attach, server)
    return found[0]


def versions(client) -> list[str]:
    listed = models_pb2_grpc.ModelServiceStub(client.channel).List(models_pb2.ListModelsRequest())
    return [f"{model.name}/{model.version}" for model in listed.models]


class Walker:
    """Streams ones to sessions without a pause, on a thread, and keeps the answers."""

    def __init__(self, client, opened, **fields):
        self.answers: list[list[float]] = []
        self._stream = client.stream()
        self._request = step_request(opened, np.ones((len(opened.handles), 1)), **fields)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._walk)

    def _walk(self):
        while not self._stop.is_set():
            answer = self._stream.one(self._request)
            assert set(statuses(answer)) == {"OK"}, answer
            assert set(applied(answer)) == {len(self.answers) + 1}, "no step is lost or done twice"
            self.answers.append(output(answer)[:, 0].tolist())
        self._stream.end()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def go_on(self, server, steps=20):
        """Wait until so many more steps are answered."""
        goal = len(self.answers) + steps
        wait(lambda: len(self.answers) >= goal or not self._thread.is_alive(), server)
        assert self._thread.is_alive()


def test_new_sessions_take_a_new_version_and_live_streams_never_notice(tmp_path):
    with serving(tmp_path, *FAST) as (server, client):
        old = client.open("sum", 3, ids=["a", "b", "c"])
        # A client that names no version must not fall to one that came since.
        with Walker(client, old, version="") as walker:
            walker.go_on(server)
            put(tmp_path, "2", scaled_sum(10))
            wait(lambda: "sum/2" in versions(client), server)
            new = client.open("sum", 2)
            assert new.version == "2"
            assert output(client.step(step_request(new, [[1], [2]]))).tolist() == [[10], [20]]
            walker.go_on(server)
        steps = len(walker.answers)
        assert walker.answers == [[count + 1] * 3 for count in range(steps)]
        assert versions(client) == ["sum/2", "sum/1"]
        kept = client.stub.Get(sessions_pb2.GetSessionRequest(id="a")).session
        assert (kept.version, kept.applied) == ("1", steps)
        again = client.attach("sum", ["a", "b", "c"])
        assert again.version == "1"
        mixed = step_request(again, [[1]] * 3, version="2")
        assert statuses(client.step(mixed)) == ["OK"] * 3, "their handles say which one it is"
        both = np.concatenate([again.handles, new.handles]).tobytes()
        answer = client.step(step_request(again, [[1]] * 5, version="", handles=both))
        assert statuses(answer) == ["OK"] * 3 + ["NOT_FOUND"] * 2

        client.close(again)
        wait(lambda: "model unloaded" in server.log_text(), server)
        assert versions(client) == ["sum/2"]
        with pytest.raises(grpc.RpcError) as caught:
            client.open("sum", version="1")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "no model 'sum/1' here; there are: sum/2" in caught.value.details()
        assert output(client.step(step_request(new, [[1], [1]]))).tolist() == [[20], [30]]


def test_a_whole_new_model_appears_with_its_health_and_its_metrics(tmp_path):
    with serving(tmp_path, *FAST) as (server, client):
        health = health_pb2_grpc.HealthStub(client.channel)
        put(tmp_path, "1", scaled_sum(3), name="fresh")
        wait(lambda: "fresh/1" in versions(client), server)
        serves = health_pb2.HealthCheckResponse.SERVING
        request = health_pb2.HealthCheckRequest(service="fresh")
        wait(lambda: health.Check(request).status == serves, server)
        opened = client.open("fresh")
        assert output(client.step(step_request(opened, [[2]]))).tolist() == [[6]]
        assert sample(server, "carousel_steps_total", model="fresh") == 1
        assert sample(server, "carousel_sessions", model="fresh", state="live") == 1
        assert sample(server, "carousel_model_load_failures_total", model="fresh") == 0
        (tmp_path / "models" / "fresh" / "1" / "model.onnx").unlink()
        client.close(opened)
        wait(lambda: "fresh/1" not in versions(client), server)
        wait(lambda: health.Check(request).status != serves, server)
        assert health.Check(health_pb2.HealthCheckRequest(service="sum")).status == serves


def test_a_broken_version_is_refused_and_the_old_one_serves_on(tmp_path):
    with serving(tmp_path, *FAST) as (server, client):
        old = client.open("sum")
        with Walker(client, old) as walker:
            walker.go_on(server)
            put(tmp_path, "2", scaled_sum(10).SerializeToString()[:100])
            wait(lambda: "model refused" in server.log_text(), server)
            walker.go_on(server)
        assert sample(server, "carousel_model_load_failures_total", model="sum") == 1
        assert client.open("sum").version == "1"
        assert versions(client) == ["sum/1"]
        # What mends it is taken, without anything being told.
        put(tmp_path, "2", scaled_sum(10))
        wait(lambda: client.open("sum").version == "2", server)


def test_a_file_that_is_copied_slowly_is_served_whole(tmp_path):
    whole = models.lstm(features=4, hidden=64, layers=2).SerializeToString()
    with serving(tmp_path, "--reload-seconds", "0.5") as (server, client):
        path = tmp_path / "models" / "sum" / "2" / "model.onnx"
        path.parent.mkdir()
        with path.open("wb", buffering=0) as file:
            for begin in range(0, len(whole), len(whole) // 20):
                file.write(whole[begin : begin + len(whole) // 20])
                assert client.open("sum").version == "1"
                time.sleep(0.05)
        wait(lambda: client.open("sum").version == "2", server)


def test_compatible_sessions_move_under_their_clients_feet(tmp_path):
    with serving(tmp_path, *FAST, "--migrate", "compatible") as (server, client):
        opened = client.open("sum", 4)
        parked = client.open("sum", 1, ids=["quiet"])
        client.step(step_request(parked, [[5]]))
        with (
            carousel.connect(server.address) as sdk,
            sdk.open("sum", id="mine") as session,
            Walker(client, opened) as walker,
        ):
            # A whole-number input a step, so that each answer says which version gave it.
            first = session.step(np.ones((100, 1), np.float32))
            walker.go_on(server)
            put(tmp_path, "2", scaled_sum(10))
            wait(lambda: "sessions moved" in server.log_text(), server)
            walker.go_on(server)
            rest = session.step(np.ones((100, 1), np.float32))
            assert sdk.model("sum").version == "2"
        np.testing.assert_array_equal(first[:, 0], np.arange(1, 101))
        np.testing.assert_array_equal(rest[:, 0], 10 * np.arange(101, 201))
        answers = np.array(walker.answers)  # (steps, sessions)
        factors = answers / np.arange(1, len(answers) + 1)[:, None]
        switch = int((factors[:, 0] == 1).sum())
        assert 0 < switch < len(answers)
        assert (factors[:switch] == 1).all()
        assert (factors[switch:] == 10).all()
        # Handles of then are good now, whichever version they are sent with.
        assert output(client.step(step_request(parked, [[1]], version="1"))).tolist() == [[60]]
        assert output(client.step(step_request(parked, [[1]], version=""))).tolist() == [[70]]
        assert client.attach("sum", ["quiet"]).version == "2"
        assert versions(client) == ["sum/2"]
        with pytest.raises(grpc.RpcError, match="no model 'sum/1' here; there are: sum/2"):
            client.open("sum", version="1")

        # States of another kind do not move; what they were opened for runs on.
        old = client.open("sum")
        put(tmp_path, "3", scaled_sum(100, state="other"))
        wait(lambda: client.open("sum").version == "3", server)
        assert "sessions stay" in server.log_text()
        assert "they were 's' float32[1]" in server.log_text()
        assert output(client.step(step_request(old, [[1]]))).tolist() == [[10]]


def test_moved_sessions_are_kept_as_the_new_versions(tmp_path):
    store = ("--store", f"file:{tmp_path / 'store'}")
    with serving(tmp_path, *FAST, *store, "--migrate", "compatible") as (server, client):
        opened = client.open("sum", 2, ids=["a", "b"])
        client.step(step_request(opened, [[1], [2]]))
        put(tmp_path, "2", scaled_sum(10))
        wait(lambda: "sessions moved" in server.log_text(), server)
        client.step(step_request(opened, [[1], [2]]))
        assert server.stop() == 0
    (tmp_path / "models" / "sum" / "1" / "model.onnx").unlink()
    with (
        run_server(tmp_path / "models", *store, log=tmp_path / "log2") as server,
        raw.connect(server.address) as client,
    ):
        again = attach_when_it_may(client, "sum", ["a", "b"], server)
        assert (again.version, again.applied.tolist()) == ("2", [2, 2])
        assert output(client.step(step_request(again, [[1], [1]]))).tolist() == [[30], [50]]


def test_a_long_chunk_ends_with_the_version_that_began_it(tmp_path):
    with serving(tmp_path, *FAST, "--migrate", "compatible") as (_, client):
        steps = 20_000
        opened = client.open("sum")
        stream = client.stream()
        ones = step_request(opened, np.ones((steps, 1)), lengths=[steps])
        expected = np.arange(1, steps + 1, dtype=np.float32)
        wholly, count = [], 0
        put(tmp_path, "2", scaled_sum(10))
        while len(wholly) < 2 or wholly[-1] != 10:
            answers = np.concatenate([output(part)[:, 0] for part in stream.ask(ones)])
            factor = answers[0] / (count + 1)
            np.testing.assert_array_equal(answers, factor * (expected + count))
            wholly.append(factor)
            count += steps
            assert count < 2**24, "beyond it float32 can't count"
        stream.end()
        assert wholly == sorted(wholly)
        assert set(wholly) <= {1, 10}


def test_with_reload_seconds_0_the_server_looks_on_sighup_only(tmp_path):
    with serving(tmp_path, "--reload-seconds", "0") as (server, client):
        put(tmp_path, "2", scaled_sum(10))
        os.kill(server.process.pid, signal.SIGHUP)
        wait(lambda: "sum/2" in versions(client), server)
        put(tmp_path, "3", scaled_sum(100))
        client.step(step_request(client.open("sum"), [[1]]))
        assert versions(client)[0] == "sum/2"
        os.kill(server.process.pid, signal.SIGHUP)
        wait(lambda: "sum/3" in versions(client), server)
        assert server.stop() == 0


def test_a_server_that_is_stopped_while_it_loads_stops(tmp_path):
    with serving(tmp_path, *FAST) as (server, client):
        opened = client.open("sum")
        put(tmp_path, "2", models.lstm(features=8, hidden=512, layers=2))
        wait(lambda: "model found" in server.log_text(), server)
        assert output(client.step(step_request(opened, [[1]]))).tolist() == [[1]]
        assert server.stop() == 0
        assert "Traceback" not in server.log_text()
