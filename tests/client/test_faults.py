"""Every status and code has its error, and every error its place in the tree."""

import copy
import pickle

import pytest
from google.rpc import code_pb2

import carousel_client as carousel
from carousel.v1 import sessions_pb2 as pb
from carousel_client import _errors
from carousel_client import _faults as faults
from tests.client.fake import status

ROWS = {
    "STALE_HANDLE": carousel.StaleHandle,
    "NOT_FOUND": carousel.SessionNotFound,
    "INVALID": carousel.InvalidInput,
    "OUT_OF_ORDER": carousel.OutOfOrder,
    "ALREADY_APPLIED": carousel.AnswersLost,
    "DUPLICATE": carousel.OutOfOrder,
    "NUMERIC_FAULT": carousel.NumericFault,
    "MODEL_ERROR": carousel.ModelError,
    "BUSY": carousel.Busy,
    "DEADLINE": carousel.DeadlineExceeded,
    "EXPIRED": carousel.SessionExpired,
    "MOVED": carousel.SessionMoved,
}


def test_the_list_of_statuses_is_complete():
    assert {f"ROW_STATUS_{name}" for name in ROWS} | {"ROW_STATUS_OK"} == set(pb.RowStatus.keys())


@pytest.mark.parametrize("name", ROWS)
def test_every_row_status_becomes_its_error(name, client, fake):
    session = client.open("sum", "s")
    session.step([1, 1])
    word = pb.RowStatus.Value(f"ROW_STATUS_{name}")
    fake.switches.rows = {"s": [(word, 0)] * 1000}
    with pytest.raises(carousel.CarouselError) as error:
        session.step([1, 1])
    assert type(error.value) is ROWS[name]
    assert error.value.session == "s"
    assert session.applied == 1


def test_an_unknown_row_status_is_told(client, fake):
    fake.switches.rows = {"s": [(99, 0)]}
    with pytest.raises(carousel.ServerError, match="row status 99"):
        client.open("sum", "s").step([1, 1])


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("INVALID_ARGUMENT", "", carousel.InvalidInput),
        ("NOT_FOUND", "", carousel.ModelNotFound),
        ("NOT_FOUND", "SESSION_EXPIRED", carousel.SessionExpired),
        ("ALREADY_EXISTS", "", carousel.SessionExists),
        ("DEADLINE_EXCEEDED", "", carousel.DeadlineExceeded),
        ("UNAVAILABLE", "", carousel.Unavailable),
        ("INTERNAL", "", carousel.ServerError),
    ],
)
def test_every_error_of_a_message_becomes_its_class(code, reason, kind, client, fake):
    fake.switches.messages = [status(code_pb2.Code.Value(code), "in words", reason)]
    session = client.open("sum", "s")
    with pytest.raises(carousel.CarouselError, match="in words") as error:
        session.step([1, 1])
    assert type(error.value) is kind
    assert error.value.session == "s"
    assert session.step([1, 1]).tolist() == [1, 1]


def test_not_found_means_the_session_where_sessions_are_asked_for():
    found = faults.from_status(status(code_pb2.NOT_FOUND), subject="session")
    assert type(found) is carousel.SessionNotFound


@pytest.mark.parametrize(
    "error",
    [
        carousel.Busy("full", session="s", applied=3, retry_after=0.5),
        carousel.ServerError("broken", code="INTERNAL"),
        carousel.AnswersLost("lost", steps=range(3, 5), session="s"),
        carousel.DeadlineExceeded("late", session="s"),
    ],
)
def test_errors_can_be_copied_and_sent_to_other_processes(error):
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_the_tree_in_the_docstring_is_the_tree():
    drawn, above = {}, []
    for line in _errors.__doc__.splitlines():
        name = line.lstrip("│├└─ ").split(" ")[0]
        if isinstance(getattr(_errors, name or "-", None), type):
            depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
            above = [*above[:depth], name]
            drawn[name] = above[depth - 1] if depth else "Exception"
    real = {
        name: kind.__bases__[0].__name__
        for name, kind in vars(_errors).items()
        if isinstance(kind, type) and issubclass(kind, carousel.CarouselError)
    }
    assert drawn == real
    assert set(real) <= set(carousel.__all__)
