"""What gRPC calls the server's errors: one table, and the details that clients can act on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from carousel.v1 import sessions_pb2
from carousel_server import errors

_DOMAIN = "carousel"

# The first class that fits counts, so the special ones stand before the general ones.
_CODES: list[tuple[type[errors.CarouselError], grpc.StatusCode, str]] = [
    (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    (errors.ModelUnloaded, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
    (errors.ModelNotFound, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
    (errors.SessionExpired, grpc.StatusCode.NOT_FOUND, "SESSION_EXPIRED"),
    (errors.SessionNotFound, grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND"),
    (errors.SessionExists, grpc.StatusCode.ALREADY_EXISTS, "SESSION_EXISTS"),
    (errors.NoRoom, grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_ROOM"),
    (errors.Draining, grpc.StatusCode.UNAVAILABLE, "DRAINING"),
    (errors.SessionsMoved, grpc.StatusCode.FAILED_PRECONDITION, "SESSION_MOVED"),
    (errors.StoreAway, grpc.StatusCode.UNAVAILABLE, "STORE_AWAY"),
    (errors.TakeOverWaits, grpc.StatusCode.UNAVAILABLE, "TAKE_OVER_WAITS"),
    (errors.SnapshotMismatch, grpc.StatusCode.FAILED_PRECONDITION, "SNAPSHOT_MISMATCH"),
]


def code_of(error: errors.CarouselError) -> tuple[grpc.StatusCode, str]:
    """Return gRPC's code for an error, and the reason that ErrorInfo gives."""
    if isinstance(error, errors.SnapshotMismatch) and error.damaged:
        return grpc.StatusCode.INVALID_ARGUMENT, "SNAPSHOT_DAMAGED"
    for kind, code, reason in _CODES:
        if isinstance(error, kind):
            return code, reason
    return grpc.StatusCode.INTERNAL, "INTERNAL"


def to_status(error: errors.CarouselError) -> status_pb2.Status:
    """Return an error as a `google.rpc.Status` with ErrorInfo, and RetryInfo where it may pass."""
    code, reason = code_of(error)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=_DOMAIN, metadata=_metadata(error))
    details: list[message.Message] = [info]
    if isinstance(error, errors.SessionsMoved):
        # Bounded: this travels in a header.
        details += [
            sessions_pb2.SessionMoved(id=name, address=address)
            for name, address in error.places[:20]
        ]
    if error.retry_after_ms:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code.value[0], message=str(error))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _metadata(error: errors.CarouselError) -> dict[str, str]:
    if isinstance(error, errors.SessionExpired):
        expired_at = datetime.fromtimestamp(error.at, UTC).isoformat()
        return {"session": error.ids[0], "expired_at": expired_at, "rule": error.rule}
    if isinstance(error, errors.SessionNotFound):
        # Bounded: this travels in a header.
        return {
            "sessions": ",".join(name[:128] for name in error.ids[:20]),
            "count": str(len(error.ids)),
        }
    return {}


async def abort(
    context: grpc.aio.ServicerContext[message.Message, message.Message],
    error: errors.CarouselError,
) -> NoReturn:
    """End a call with an error."""
    code, _ = code_of(error)
    details = to_status(error).SerializeToString()
    await context.abort(code, str(error), (("grpc-status-details-bin", details),))
    raise AssertionError("abort raises")
