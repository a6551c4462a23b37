"""Spans through OpenTelemetry: the only module that imports it.

Its own variables hold as everywhere: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, what is
sampled (OTEL_TRACES_SAMPLER), how clients' traces are told (OTEL_PROPAGATORS), and the exporter's
headers, time-outs and certificates (OTEL_EXPORTER_OTLP_*). Names of attributes that others know
follow OpenTelemetry's conventions: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import partial

from google.rpc import code_pb2
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode

from carousel.v1 import sessions_pb2
from carousel_server import log
from carousel_server.engine.batch import StepBatch, Times
from carousel_server.spans import Metadata

_OK = "OK"
# A collector that does not answer must not hold up the end of the process.
_LAST_SPANS_SECONDS = 2.0
#: What the server itself is to blame for; a client's mistake is no error of the server's span.
_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


def open_otel(endpoint: str, *, version: str, server_id: int) -> OtelTracing:
    """Return tracing whose spans go to a collector at http(s)://HOST:PORT, by OTLP over gRPC."""
    attributes = {SERVICE_VERSION: version, SERVICE_INSTANCE_ID: f"{server_id:016x}"}
    if "OTEL_SERVICE_NAME" not in os.environ:
        attributes[SERVICE_NAME] = "carousel-server"
    _log_as_we_do()
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint, insecure=endpoint.startswith("http://"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtelTracing(provider, version=version)


class _ToOurLog(logging.Handler):
    """Takes what OpenTelemetry says of itself, of a collector that is away say, to the log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        log.get().warning("traces", detail=record.getMessage())


def _log_as_we_do() -> None:
    theirs = logging.getLogger("opentelemetry")
    theirs.handlers, theirs.propagate = [_ToOurLog()], False


class OtelTracing:
    """See `tracing.Tracing`."""

    def __init__(self, provider: TracerProvider, *, version: str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("carousel_server", version)

    def call(self, method: str, metadata: Metadata) -> OtelCallSpan:
        """Begin the span of a unary call."""
        return OtelCallSpan(self._span(method, _client(metadata)))

    def steps(self, method: str, metadata: Metadata) -> OtelStepSpans:
        """Return what begins the spans of a call's step messages."""
        return OtelStepSpans(partial(self._span, method, _client(metadata)))

    def close(self) -> None:
        """Send off what is left, if that is done soon."""
        last = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(_LAST_SPANS_SECONDS)

    def _span(self, method: str, client: Context) -> Span:
        name = method.removeprefix("/")
        service, _, call = name.partition("/")
        return self._tracer.start_span(
            name,
            client,
            SpanKind.SERVER,
            {"rpc.system": "grpc", "rpc.service": service, "rpc.method": call},
        )


class OtelCallSpan:
    """See `tracing.CallSpan`."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, code: str) -> None:
        """End it."""
        _end(self._span, code)


class OtelStepSpans:
    """See `tracing.StepSpans`."""

    def __init__(self, span: partial[Span]) -> None:
        self._span = span

    def begin(self, request: sessions_pb2.StepRequest) -> OtelStepSpan:
        """Begin one."""
        span = self._span()
        if span.is_recording():
            span.set_attribute("carousel.model", request.model)
            span.set_attribute("carousel.request", str(request.id))
            span.set_attribute("carousel.rows", len(request.handles) // 8)
        return OtelStepSpan(span)


class OtelStepSpan:
    """See `tracing.StepSpan`."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._batch: StepBatch | None = None
        self._refused = 0

    def follow(self, batch: StepBatch) -> None:
        """Have the engine say when the message's rows ran; not where the span is not sampled."""
        if self._span.is_recording():
            batch.times = Times()
            self._batch = batch

    def answered(self, answer: sessions_pb2.StepResponse) -> None:
        """Note an answer; the last one ends the span."""
        self._refused += len(answer.status) - answer.status.count(0)
        if not answer.done:
            return
        self._span.set_attribute("carousel.rows_refused", self._refused)
        if (batch := self._batch) is not None:
            self._span.set_attribute("carousel.steps", batch.steps)
            self._say_times(batch)
        if answer.HasField("error"):
            _end(self._span, code_pb2.Code.Name(answer.error.code), answer.error.message)
        else:
            _end(self._span, _OK)

    def _say_times(self, batch: StepBatch) -> None:
        times = batch.times
        if times is None or not times.runs:
            return  # no row ran
        self._span.set_attribute("carousel.queue_seconds", times.began - batch.arrived)
        self._span.set_attribute("carousel.run_seconds", times.seconds)
        self._span.set_attribute("carousel.runs", times.runs)


def _client(metadata: Metadata) -> Context:
    """Return the trace that a client is in, as its call's metadata tell."""
    carrier = {key: value for key, value in metadata if isinstance(value, str)}
    return propagate.extract(carrier)


def _end(span: Span, code: str, why: str = "") -> None:
    span.set_attribute("rpc.grpc.status_code", code_pb2.Code.Value(code))
    if code in _FAULTS:
        span.set_status(StatusCode.ERROR, why or code)
    span.end()
