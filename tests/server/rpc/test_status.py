"""What gRPC calls the server's errors, and what clients can act on."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from carousel.v1 import sessions_pb2
from carousel_server import errors
from carousel_server.rpc.status import code_of, to_status

CODE = grpc.StatusCode
CASES = [
    (errors.InvalidRequest("no rows"), CODE.INVALID_ARGUMENT, "INVALID_REQUEST"),
    (errors.ModelNotFound("a", "", ["b"]), CODE.NOT_FOUND, "MODEL_NOT_FOUND"),
    (errors.ModelUnloaded("a/1"), CODE.NOT_FOUND, "MODEL_NOT_FOUND"),
    (errors.SessionNotFound(["a"]), CODE.NOT_FOUND, "SESSION_NOT_FOUND"),
    (errors.SessionExpired("a", at=0.0, rule="r"), CODE.NOT_FOUND, "SESSION_EXPIRED"),
    (errors.SessionExists("a"), CODE.ALREADY_EXISTS, "SESSION_EXISTS"),
    (errors.NoRoom("full", retry_after_ms=1), CODE.RESOURCE_EXHAUSTED, "NO_ROOM"),
    (errors.Draining(), CODE.UNAVAILABLE, "DRAINING"),
    (errors.SessionsMoved([("a", "")]), CODE.FAILED_PRECONDITION, "SESSION_MOVED"),
    (errors.StoreAway("redis://cache:6379/0"), CODE.UNAVAILABLE, "STORE_AWAY"),
    (errors.TakeOverWaits(2.0), CODE.UNAVAILABLE, "TAKE_OVER_WAITS"),
    (
        errors.SnapshotMismatch("other", damaged=False),
        CODE.FAILED_PRECONDITION,
        "SNAPSHOT_MISMATCH",
    ),
    (errors.SnapshotMismatch("torn", damaged=True), CODE.INVALID_ARGUMENT, "SNAPSHOT_DAMAGED"),
    (errors.RunError("broken"), CODE.INTERNAL, "INTERNAL"),
]


def details(error: errors.CarouselError) -> dict[str, object]:
    """Return the details of an error's status by their kind."""
    found = {}
    for packed in to_status(error).details:
        name = packed.type_url.rpartition(".")[2]
        kind = getattr(error_details_pb2, name, None) or getattr(sessions_pb2, name)
        found[kind.__name__] = message = kind()
        assert packed.Unpack(message)
    return found


@pytest.mark.parametrize(("error", "code", "reason"), CASES)
def test_the_table(error, code, reason):
    assert code_of(error) == (code, reason)
    status = to_status(error)
    assert status.code == code.value[0]
    assert status.message == str(error)
    info = details(error)["ErrorInfo"]
    assert (info.domain, info.reason) == ("carousel", reason)


def test_every_error_that_an_rpc_can_raise_is_in_the_table():
    known = {type(error) for error, _, _ in CASES}
    at_start = {errors.ModelFileError, errors.ConfigError, errors.DeviceError}
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.CarouselError)
    }
    assert kinds - {errors.CarouselError} == known | at_start


def test_when_to_try_again():
    delay = details(errors.NoRoom("full", retry_after_ms=1500))["RetryInfo"].retry_delay
    assert (delay.seconds, delay.nanos) == (1, 500_000_000)
    assert "RetryInfo" not in details(errors.InvalidRequest("no rows"))
    # A session has as many marks as it may: that does not pass by itself.
    assert "RetryInfo" not in details(errors.NoRoom("16 marks", retry_after_ms=0))
    assert details(errors.TakeOverWaits(2.0))["RetryInfo"].retry_delay.nanos == 500_000_000
    assert "RetryInfo" in details(errors.StoreAway("redis://cache:6379/0"))


def test_where_sessions_have_moved_to():
    places = [(f"s{number}", f"10.0.0.1:{number}") for number in range(5000)]
    status = to_status(errors.SessionsMoved(places))
    moved = []
    for packed in status.details[1:]:
        moved.append(sessions_pb2.SessionMoved())
        assert packed.Unpack(moved[-1])
    assert [(one.id, one.address) for one in moved] == places[:20]
    assert "s0" in status.message
    assert "4999 more" in status.message
    assert len(status.SerializeToString()) < 4096


def test_an_expired_session_says_when_and_by_which_rule():
    info = details(errors.SessionExpired("a", at=60.0, rule="idle for 5 s"))["ErrorInfo"]
    assert dict(info.metadata) == {
        "session": "a",
        "expired_at": "1970-01-01T00:01:00+00:00",
        "rule": "idle for 5 s",
    }


def test_many_missing_sessions_fit_into_a_header():
    error = errors.SessionNotFound([f"{'s' * 100}{number}" for number in range(5000)])
    info = details(error)["ErrorInfo"]
    assert info.metadata["count"] == "5000"
    assert len(to_status(error).SerializeToString()) < 4096
