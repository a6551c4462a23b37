"""What traces are to the rest of the server: a span a request; `otel.py` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from carousel.v1 import sessions_pb2
from carousel_server.engine.batch import StepBatch

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
