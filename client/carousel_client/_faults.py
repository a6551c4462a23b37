"""The one table from what servers and gRPC say to the errors that the client raises."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, cast

import grpc
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from carousel.v1 import sessions_pb2 as pb
from carousel_client import _errors as errors

#: What a NOT_FOUND or an ALREADY_EXISTS is about, where the server gives no reason.
Subject = Literal["model", "session", "snapshot"]

#: Made by `_attach` and the exchange from a row's status: class, and words where none came.
ROWS: Final[Mapping[int, tuple[type[errors.CarouselError], str]]] = MappingProxyType(
    {
        pb.ROW_STATUS_STALE_HANDLE: (
            errors.StaleHandle,
            "the session was attached elsewhere; attach to it again to take it back",
        ),
        pb.ROW_STATUS_NOT_FOUND: (errors.SessionNotFound, "the server knows no such session"),
        pb.ROW_STATUS_INVALID: (errors.InvalidInput, "the server refused the input's values"),
        pb.ROW_STATUS_OUT_OF_ORDER: (
            errors.OutOfOrder,
            "not run: a step before these is missing or has failed",
        ),
        pb.ROW_STATUS_DUPLICATE: (errors.OutOfOrder, "the session stood twice in one message"),
        pb.ROW_STATUS_NUMERIC_FAULT: (
            errors.NumericFault,
            "the model's new state or output is not finite; the session stays where it was",
        ),
        pb.ROW_STATUS_MODEL_ERROR: (
            errors.ModelError,
            "the model failed; the session stays where it was",
        ),
        pb.ROW_STATUS_BUSY: (errors.Busy, "the server's queue is full"),
        pb.ROW_STATUS_DEADLINE: (
            errors.DeadlineExceeded,
            "the time given ran out before all steps were run",
        ),
        pb.ROW_STATUS_EXPIRED: (
            errors.SessionExpired,
            "the session was idle for too long and is gone; open a new one",
        ),
        pb.ROW_STATUS_MOVED: (errors.SessionMoved, "another server has the session"),
    }
)

#: Statuses after which the session cannot be stepped with this handle; `applied` means nothing.
GONE: Final = frozenset(
    {
        pb.ROW_STATUS_STALE_HANDLE,
        pb.ROW_STATUS_NOT_FOUND,
        pb.ROW_STATUS_EXPIRED,
        pb.ROW_STATUS_MOVED,
    }
)

#: From google.rpc.ErrorInfo.reason.
REASONS: Final[Mapping[str, type[errors.CarouselError]]] = MappingProxyType(
    {
        "MODEL_NOT_FOUND": errors.ModelNotFound,
        "STORE_AWAY": errors.StoreAway,
        "SESSION_NOT_FOUND": errors.SessionNotFound,
        "SESSION_EXPIRED": errors.SessionExpired,
        "SESSION_EXISTS": errors.SessionExists,
        "SESSION_MOVED": errors.SessionMoved,
        "SNAPSHOT_MISMATCH": errors.SnapshotMismatch,
        "SNAPSHOT_DAMAGED": errors.SnapshotMismatch,
    }
)

#: Failures of a connection after which another attempt makes sense.
_PASSING_CODES: Final = frozenset({"CANCELLED", "UNKNOWN", "INTERNAL", "ABORTED"})

#: From a gRPC code.
CODES: Final[Mapping[int, type[errors.CarouselError]]] = MappingProxyType(
    {
        code_pb2.INVALID_ARGUMENT: errors.InvalidInput,
        code_pb2.NOT_FOUND: errors.SessionNotFound,
        code_pb2.ALREADY_EXISTS: errors.SessionExists,
        code_pb2.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
        code_pb2.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
        code_pb2.UNAVAILABLE: errors.Unavailable,
    }
)


def from_row(
    status: int, message: str, *, session: str, applied: int | None
) -> errors.CarouselError:
    """Return the error of one row; `message` is the server's words, or empty."""
    if status not in ROWS:
        return errors.ServerError(
            f"session {session!r}: the server answered row status {status}, which this client "
            "doesn't know; update it",
            code="UNKNOWN",
            session=session,
        )
    kind, words = ROWS[status]
    return kind(f"session {session!r}: {message or words}", session=session, applied=applied)


def from_status(status: status_pb2.Status, *, subject: Subject) -> errors.CarouselError:
    """Return the error for a google.rpc.Status, from an answer or from a failed call."""
    reason, retry_after, elsewhere = "", None, dict[str, str]()
    for detail in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        moved = pb.SessionMoved()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            retry_after = seconds(retry.retry_delay)
        elif detail.Unpack(moved):
            elsewhere[moved.id] = moved.address
    if status.code == code_pb2.NOT_FOUND and subject != "session" and reason not in REASONS:
        return errors.ModelNotFound(status.message)
    if status.code == code_pb2.FAILED_PRECONDITION and subject == "snapshot":
        return errors.SnapshotMismatch(status.message)
    kind = REASONS.get(reason) or CODES.get(status.code)
    if kind is None:
        name = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else "?"
        return errors.ServerError(f"{name}: {status.message}", code=name)
    error = kind(status.message, retry_after=retry_after)
    if isinstance(error, errors.SessionMoved):
        error.addresses, error.session = elsewhere, next(iter(elsewhere), None)
    return error


def from_rpc_error(
    error: grpc.RpcError, *, subject: Subject, late: str = ""
) -> errors.CarouselError:
    """Return the error for a call that failed, sync or asyncio, with its details if it has any.

    `late` is what to say where its time ran out: gRPC itself says no more than that.
    """
    if not hasattr(error, "code"):
        return errors.ServerError(str(error), code="UNKNOWN")
    call = cast("grpc.Call", error)  # what gRPC raises is the call itself, or looks like it
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # the details contradict the call's own code: trust the code
        status = None
    if status is None:
        code = call.code()
        words = late if code is grpc.StatusCode.DEADLINE_EXCEEDED else ""
        words = words or call.details() or code.name
        status = status_pb2.Status(code=code.value[0], message=words)
    return from_status(status, subject=subject)


def passing(error: errors.CarouselError) -> bool:
    """Whether what failed so is worth another attempt: nobody is there, or not yet."""
    if isinstance(error, errors.ServerError):
        return error.code in _PASSING_CODES
    return isinstance(error, errors.Unavailable | TimeoutError)


def seconds(duration: duration_pb2.Duration) -> float:
    """Return a Duration as seconds."""
    return float(duration.seconds + duration.nanos / 1e9)
