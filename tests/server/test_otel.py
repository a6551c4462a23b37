"""Spans: one for each request, in the client's trace, with what waiting and running took."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from carousel.v1 import sessions_pb2
from carousel_server.engine.batch import StepBatch
from carousel_server.errors import ConfigError
from carousel_server.otel import OtelTracing
from carousel_server.settings import Settings
from carousel_server.tracing import open_tracing
from tests.support.bench import Bench, chunk, handles
from tests.support.recurrence import RecurrenceRunner
from tests.support.steps import batch_of

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
METADATA = [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("key-bin", b"\xff")]
STREAM = "/carousel.v1.SessionService/Stream"


@pytest.fixture
def traced():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return SimpleNamespace(
        tracing=OtelTracing(provider, version="1"), spans=exporter.get_finished_spans
    )


def test_a_call_is_a_span_in_its_clients_trace(traced):
    span = traced.tracing.call("/carousel.v1.SessionService/Open", METADATA)
    assert traced.spans() == ()
    span.end("NOT_FOUND")
    (done,) = traced.spans()
    assert done.name == "carousel.v1.SessionService/Open"
    assert done.kind is SpanKind.SERVER
    assert f"{done.context.trace_id:032x}" == TRACE
    assert f"{done.parent.span_id:016x}" == PARENT
    assert dict(done.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "carousel.v1.SessionService",
        "rpc.method": "Open",
        "rpc.grpc.status_code": 5,
    }
    assert done.status.status_code is StatusCode.UNSET, "a client's mistake"


def test_the_servers_own_fault_is_an_error(traced):
    traced.tracing.call("/a.B/C", ()).end("UNKNOWN")
    (done,) = traced.spans()
    assert done.parent is None
    assert done.status.status_code is StatusCode.ERROR


def test_a_message_tells_of_waiting_and_running(traced):
    """On a real engine: a chunk that takes several runs beside a single step."""
    clock = [100.0]

    def ticking() -> float:
        clock[0] += 0.25
        return clock[0]

    bench = Bench(RecurrenceRunner(slots=6), max_steps_per_tick=4, clock=ticking)
    a, b = bench.open("a", "b")
    spans = traced.tracing.steps(STREAM, METADATA)
    request = sessions_pb2.StepRequest(id=7, model="m", handles=handles(a, b).tobytes())
    span = spans.begin(request)
    batch, _ = batch_of([(a, chunk(10)), (b, chunk(1))])
    span.follow(batch)
    bench.engine.submit(batch)
    bench.drain()
    span.answered(sessions_pb2.StepResponse(id=7, status=b"\0"))
    assert traced.spans() == ()
    span.answered(sessions_pb2.StepResponse(id=7, done=True, status=b"\3"))
    (done,) = traced.spans()
    times = batch.times
    assert times.runs == 3
    assert times.seconds == pytest.approx(3 * 0.25)
    found = dict(done.attributes)
    assert found["carousel.queue_seconds"] == pytest.approx(times.began - batch.arrived)
    assert found["carousel.queue_seconds"] > 0
    assert found["carousel.run_seconds"] == times.seconds
    assert (found["carousel.runs"], found["carousel.rows"], found["carousel.steps"]) == (3, 2, 11)
    assert (found["carousel.model"], found["carousel.request"]) == ("m", "7")
    assert found["carousel.rows_refused"] == 1


def test_a_message_of_which_nothing_ran_tells_why(traced):
    span = traced.tracing.steps(STREAM, ()).begin(sessions_pb2.StepRequest(id=1))
    answer = sessions_pb2.StepResponse(id=1, done=True)
    answer.error.code, answer.error.message = 14, "the server is going down"
    span.answered(answer)
    (done,) = traced.spans()
    assert "carousel.queue_seconds" not in done.attributes
    assert done.attributes["rpc.grpc.status_code"] == 14
    assert done.status.description == "the server is going down"


def test_what_is_not_sampled_costs_the_engine_nothing():
    tracing = OtelTracing(TracerProvider(sampler=ALWAYS_OFF), version="1")
    span = tracing.steps(STREAM, ()).begin(sessions_pb2.StepRequest(id=1))
    batch = StepBatch(lambda _: None, 1, 1, np.zeros(1, np.uint64).tobytes(), (b"",))
    span.follow(batch)
    assert batch.times is None


def test_off_by_default_and_nothing_is_imported(tmp_path):
    assert open_tracing(Settings(models=tmp_path), version="1", server_id=1) is None
    program = (
        "import sys, carousel_server.app, carousel_server.__main__\n"
        "from carousel_server.settings import Settings\n"
        "from carousel_server.tracing import open_tracing\n"
        "assert open_tracing(Settings(models='x'), version='1', server_id=1) is None\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_opentelemetry_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "carousel_server.otel", None)
    settings = Settings(models=tmp_path, otlp_traces_endpoint="http://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"install carousel-server\[otel\]"):
        open_tracing(settings, version="1", server_id=1)
