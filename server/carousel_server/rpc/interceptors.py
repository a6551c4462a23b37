"""What happens around every RPC: errors become statuses; calls are counted, timed and traced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from carousel_server import log
from carousel_server.errors import CarouselError, InvalidRequest
from carousel_server.metrics import Metrics
from carousel_server.rpc import status
from carousel_server.rpc.decoding import Undecodable, tolerant
from carousel_server.spans import CallSpan, Tracing

_STEPS = ("SessionService/Step", "SessionService/Stream")

Handler = Any  # grpc.RpcMethodHandler
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps the handlers of unary calls and of streams."""

    def __init__(self, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._metrics = metrics
        self._tracing = tracing

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the method's handler, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._around(handler.unary_unary, method),
                tolerant(handler.request_deserializer),
                handler.response_serializer,
            )
        if handler.stream_stream and method.startswith("/carousel."):
            return grpc.stream_stream_rpc_method_handler(
                self._around(handler.stream_stream, method),
                tolerant(handler.request_deserializer),
                handler.response_serializer,
            )
        return handler

    def _around(self, call: Any, method: str) -> Any:
        async def wrapped(request: Any, context: Any) -> Any:
            began = time.perf_counter()
            code = "OK"
            span = self._span(method, context)
            try:
                if isinstance(request, Undecodable):
                    raise InvalidRequest(request.why)
                return await call(request, context)
            except CarouselError as error:
                code = status.code_of(error)[0].name
                await status.abort(context, error)
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except (grpc.aio.AbortError, grpc.RpcError):
                code = "ABORTED"
                raise
            except Exception:
                code = "UNKNOWN"  # what gRPC makes of it
                log.get().exception("a call failed", method=method)
                raise
            finally:
                self._metrics.rpcs.labels(method, code).inc()
                self._metrics.rpc_seconds.labels(method).observe(time.perf_counter() - began)
                if span:
                    span.end(code)

        return wrapped

    def _span(self, method: str, context: Any) -> CallSpan | None:
        """Begin a call's span; those of step messages are begun where the messages are read."""
        if self._tracing is None or method.endswith(_STEPS):
            return None
        return self._tracing.call(method, context.invocation_metadata() or ())
