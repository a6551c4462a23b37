"""Leaving out the steps that a model refuses: the others are answered as if it had not come."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import carousel_client as carousel
from carousel_client.cli._skipping import answers

BAD = -1


class Summing:
    """A session of a running sum that refuses -1: in pieces of some steps, or a chunk as a whole.

    As a server does, it answers the pieces before the one at fault, and stays where they left it.
    """

    def __init__(self, piece):
        self.piece = piece
        self.total = 0
        self.sizes = []

    def step(self, x):
        chunk = x["x"] if isinstance(x, dict) else x
        self.sizes.append(len(chunk))
        found = []
        for begin in range(0, len(chunk), self.piece):
            part = chunk[begin : begin + self.piece]
            if BAD in part:
                error = carousel.NumericFault("not finite")
                error.answers = np.array(found) if found else None
                raise error
            found += (self.total + np.cumsum(part)).tolist()
            self.total = found[-1]
        return np.array(found)


def run(session, chunks, most=None):
    """Return what was answered, and before which answer each step was left out."""
    found: list[int] = []
    left_out: list[int] = []

    def refused(_):
        left_out.append(len(found))

    for answer in answers(session, chunks, refused, most=most):
        found.extend(answer.tolist())
    return found, left_out


@given(
    values=st.lists(st.sampled_from([BAD, 0, 1, 2, 3]), max_size=40),
    size=st.integers(1, 7),
    piece=st.integers(1, 50),
    named=st.booleans(),
)
def test_what_is_left_is_answered_as_if_nothing_else_had_come(values, size, piece, named):
    chunks = [np.array(values[i : i + size]) for i in range(0, len(values), size)]
    found, left_out = run(Summing(piece), [{"x": c} for c in chunks] if named else chunks)
    good = [value for value in values if value != BAD]
    assert found == np.cumsum(good).tolist()
    assert left_out == [
        sum(value != BAD for value in values[:at]) for at, v in enumerate(values) if v == BAD
    ]


def test_what_is_there_is_sent_together():
    read, session = threading.Event(), Summing(1)

    def source():
        yield np.array([1])
        yield from (np.array([1]) for _ in range(30))
        read.set()

    waits = session.step

    def step(x):
        assert read.wait(60)
        return waits(x)

    session.step = step
    assert run(session, source())[0] == list(range(1, 32))
    assert sum(session.sizes) == 31
    assert len(session.sizes) <= 3


def test_other_errors_end_it_behind_what_was_answered():
    def source():
        yield np.array([1, BAD, 2])
        raise carousel.Unavailable("gone")

    session = Summing(1)
    with pytest.raises(carousel.Unavailable, match="gone"):
        run(session, source())
    assert session.total == 3


def test_a_session_that_is_gone_is_no_refusal():
    class Gone:
        def step(self, x):
            raise carousel.SessionExpired("gone")

    with pytest.raises(carousel.SessionExpired):
        run(Gone(), [np.array([1])])
