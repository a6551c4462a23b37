"""A real server's spans, at a real receiver of OTLP on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from carousel.v1 import server_pb2, server_pb2_grpc, sessions_pb2
from tests.support import raw
from tests.support.server import run_server

TRACE, PARENT = bytes(range(1, 17)), bytes(range(1, 9))
METADATA = (("traceparent", f"00-{TRACE.hex()}-{PARENT.hex()}-01"),)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.address = ""
        self.resources: list[dict[str, str]] = []
        self.spans: list[object] = []
        self._changed = threading.Condition()

    def Export(self, request, context):
        with self._changed:
            for some in request.resource_spans:
                self.resources.append(values(some.resource.attributes))
                self.spans += [span for scope in some.scope_spans for span in scope.spans]
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()


def values(attributes) -> dict:
    """Return attributes as a mapping."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def run_collector() -> Iterator[Collector]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(0).wait(10)


def test_requests_are_spans_in_their_clients_trace(repository, tmp_path):
    with run_collector() as collector:
        flags = ("--otlp-traces-endpoint", collector.address)
        with run_server(repository, *flags, log=tmp_path / "log") as server:
            with raw.connect(server.address) as client:
                opened = client.open("sum")
                request = raw.step_request(opened, [[1.0, 1.0]])
                client.stub.Step(request, metadata=METADATA, timeout=20)
                message = sessions_pb2.StreamRequest(step=request)
                stream = client.stub.Stream(iter([message, message]), metadata=METADATA, timeout=20)
                assert [answer.step.done for answer in stream] == [True, True]
                info = server_pb2_grpc.ServerServiceStub(client.channel)
                info.Info(server_pb2.InfoRequest(), metadata=METADATA, timeout=20)
            assert server.stop() == 0, server.log_text()  # what is left is sent off then
        resource = collector.resources[0]
        assert resource["service.name"] == "carousel-server"
        ours = [span for span in collector.spans if span.trace_id == TRACE]
        assert all(span.parent_span_id == PARENT for span in ours)
        assert all(span.end_time_unix_nano > span.start_time_unix_nano for span in ours)
        methods = [values(span.attributes)["rpc.method"] for span in ours]
        assert sorted(methods) == ["Info", "Step", "Stream", "Stream"]
        names = {span.name for span in collector.spans}
        assert "carousel.v1.SessionService/Open" in names
        for span in ours:
            found = values(span.attributes)
            if found["rpc.method"] == "Info":
                continue
            assert (found["carousel.model"], found["carousel.rows"]) == ("sum", 1)
            seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
            assert 0 < found["carousel.run_seconds"] <= seconds
            assert 0 <= found["carousel.queue_seconds"] <= seconds


def test_a_collector_that_is_away_costs_no_request(repository, tmp_path):
    flags = ("--otlp-traces-endpoint", "http://127.0.0.1:1")
    with run_server(repository, *flags, log=tmp_path / "log") as server:
        with raw.connect(server.address) as client:
            opened = client.open("sum")
            for count in range(1, 21):
                answer = client.step(raw.step_request(opened, [[1.0, 1.0]]))
                assert raw.applied(answer) == [count]
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 25


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "ftp://127.0.0.1:4317"])
def test_an_endpoint_that_is_none_is_refused(repository, tmp_path, endpoint):
    with (
        pytest.raises(AssertionError, match=f"--otlp-traces-endpoint {endpoint}"),
        run_server(repository, "--otlp-traces-endpoint", endpoint, log=tmp_path / "log"),
    ):
        pass
