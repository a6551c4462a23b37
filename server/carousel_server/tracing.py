"""What tracing is to the rest of the server: a span a request; `otel.py` makes them.

Off by default: then there is no `Tracing`, nobody asks for times, and nothing of OpenTelemetry is
imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from carousel.v1 import sessions_pb2
from carousel_server.engine.batch import StepBatch
from carousel_server.errors import ConfigError
from carousel_server.settings import Settings

#: What came with a call: its keys and values, among them the client's trace, if it has one.
Metadata = Sequence[tuple[str, str | bytes]]


class CallSpan(Protocol):
    """The span of one unary call."""

    def end(self, code: str) -> None:
        """End it with gRPC's name of a status code."""


class StepSpan(Protocol):
    """The span of one message of steps."""

    def follow(self, batch: StepBatch) -> None:
        """Have the engine say when the message's rows ran."""

    def answered(self, answer: sessions_pb2.StepResponse) -> None:
        """Note an answer, or a part of one; the last one ends the span."""


class StepSpans(Protocol):
    """Begins a span for each message of one stream, or of one call."""

    def begin(self, request: sessions_pb2.StepRequest) -> StepSpan:
        """Begin one, with whatever trace the stream's client has."""


class Tracing(Protocol):
    """Makes spans and sends them off."""

    def call(self, method: str, metadata: Metadata) -> CallSpan:
        """Begin the span of a unary call; `method` is `/package.Service/Method`."""

    def steps(self, method: str, metadata: Metadata) -> StepSpans:
        """Return what begins the spans of a call's step messages."""

    def close(self) -> None:
        """Send off what is left; it may block for some seconds."""


def open_tracing(settings: Settings, *, version: str, server_id: int) -> Tracing | None:
    """Return what `--otlp-traces-endpoint` asks for; None where it is empty.

    Raises:
        ConfigError: OpenTelemetry is not installed, or is set up wrongly.

    """
    if not settings.otlp_traces_endpoint:
        return None
    try:
        from carousel_server.otel import open_otel  # noqa: PLC0415 - not imported unless asked for
    except ImportError as error:
        raise ConfigError(
            "--otlp-traces-endpoint takes OpenTelemetry, which is not installed: "
            f"install carousel-server[otel] ({error})"
        ) from error
    return open_otel(settings.otlp_traces_endpoint, version=version, server_id=server_id)
