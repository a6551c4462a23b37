"""Everything that Carousel's client raises.

```
CarouselError
├── InvalidInput            the input doesn't fit the model, or holds a value it can't take
├── SnapshotMismatch        a snapshot that the model can't go on from, or that was changed
├── MarkNotFound            the session has no such mark, or no checkpoint so early
├── ModelNotFound           no such model, or no such version of it
├── SessionError            about one session that cannot be stepped (again)
│   ├── SessionNotFound     no open session has this id
│   │   └── SessionExpired  it was idle for too long, and the server ended it
│   ├── SessionExists       the id is in use
│   ├── SessionClosed       this program closed it
│   ├── SessionLost         its server is gone, and the state with it
│   ├── SessionMoved        another server has it
│   └── StaleHandle         somebody else has attached to it
├── StepError               about some steps; the session is open and goes on from `applied`
│   ├── AnswersLost         the server took them in, and the connection took their answers away
│   ├── OutOfOrder          not run: a step before them is missing or has failed
│   ├── NumericFault        the model's new state or output was not finite
│   └── ModelError          the model failed
├── GroupError              some of a group's rows failed; carries each one's error and all answers
├── ResourceExhausted       the server, or a message, has no room
│   ├── ReplayFull          too many inputs are held to be sent again if a server is lost
│   └── Busy                the queue stayed full for as long as the client was willing to wait
├── DeadlineExceeded        the time given ran out (also a TimeoutError)
├── Unavailable             the server doesn't answer, or takes no more work
│   ├── ConnectionLost      it did, and then the connection broke and didn't come back
│   └── StoreAway           it does, and its store of sessions, which is needed, doesn't
├── ClientClosed            the client was closed
└── ServerError             any other failure at the server; says its gRPC code
```

A failed step leaves its session where the last good step put it, unless the class says otherwise.
"""

from __future__ import annotations

from typing import Any


class CarouselError(Exception):
    """Root of the tree.

    `session` is the id of the session it is about, `applied` how many steps that session's state
    has taken in, as far as the client knows, and `retry_after` the seconds after which the server
    said to try again; each is None where it means nothing. `answers` holds the answers to the
    steps of a chunk that ran before the one that failed, `(steps, *output)`, and is None where
    there are none.
    """

    def __init__(
        self,
        message: str,
        *,
        session: str | None = None,
        applied: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.session = session
        self.applied = applied
        self.retry_after = retry_after
        self.answers: Any = None

    def __reduce__(self) -> Any:
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[CarouselError], args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    """Make an error once more, for copy and pickle, whatever its constructor takes."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class InvalidInput(CarouselError, ValueError):
    """The input doesn't fit the model, or holds a value that it can't take."""


class SnapshotMismatch(CarouselError):
    """The snapshot is of other states than the model's, or isn't what a server gave out."""


class MarkNotFound(CarouselError):
    """The session has no such mark, or no checkpoint so early; it stays where it is."""


class ModelNotFound(CarouselError):
    """The server has no such model, or no such version of it."""


class SessionError(CarouselError):
    """A session cannot be stepped, or not any more."""


class SessionNotFound(SessionError):
    """No open session has this id."""


class SessionExpired(SessionNotFound):
    """The session was idle for too long, and the server ended it."""


class SessionExists(SessionError):
    """A session with this id is open already."""


class SessionClosed(SessionError):
    """This program closed the session."""


class SessionLost(SessionError):
    """The server that held the session is gone, and the session's state with it."""


class SessionMoved(SessionError):
    """Another server has the session, at `address` where it said one.

    `addresses` holds those of all sessions that the call was about and that are elsewhere, by id.
    """

    def __init__(
        self,
        message: str,
        *,
        session: str | None = None,
        applied: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, session=session, applied=applied, retry_after=retry_after)
        self.addresses: dict[str, str] = {}

    @property
    def address(self) -> str:
        """Return the address at which the other server is, empty where it gave none."""
        return self.addresses.get(self.session or "", "")


class StaleHandle(SessionError):
    """Somebody else has attached to the session; attach again to take it back."""


class StepError(CarouselError):
    """Some steps were not run, or not answered; the session goes on from `applied`."""


class AnswersLost(StepError):
    """The session took in `steps`, but the connection broke before their answers came."""

    def __init__(
        self,
        message: str,
        *,
        steps: range,
        session: str | None = None,
        applied: int | None = None,
    ) -> None:
        super().__init__(message, session=session, applied=applied)
        self.steps = steps


class OutOfOrder(StepError):
    """The steps were not run, because a step before them is missing or has failed."""


class NumericFault(StepError):
    """The model's new state or output was not finite; the session stays where it was."""


class ModelError(StepError):
    """The model failed on these steps; the session stays where it was."""


class ResourceExhausted(CarouselError):
    """The server, or a message, has no room; `retry_after` says when to try again, if known."""


class ReplayFull(ResourceExhausted):
    """The client holds as many inputs as it may, which the store doesn't cover yet.

    Nothing was sent; the session is where it was.
    """


class Busy(ResourceExhausted):
    """The server's queue stayed full for as long as the client was willing to wait."""


class DeadlineExceeded(CarouselError, TimeoutError):
    """The time given ran out; a session's `applied` tells which steps still ran."""


class Unavailable(CarouselError):
    """The server doesn't answer, or takes no more work."""


class ConnectionLost(Unavailable):
    """The connection broke and could not be made again in time."""


class StoreAway(Unavailable):
    """The server's store of sessions doesn't answer, and what was asked for needs it."""


class ClientClosed(CarouselError):
    """The client was closed while, or before, it was used."""


class ServerError(CarouselError):
    """The server failed in a way that has no class of its own; `code` is the gRPC code's name."""

    def __init__(self, message: str, *, code: str, session: str | None = None) -> None:
        super().__init__(message, session=session)
        self.code = code


class GroupError(CarouselError):
    """Some rows of a group failed.

    `errors` maps a row's index to its error. `answers` holds what was answered, as for a ragged
    step: a list with one array a row, `(answered steps, *output)`, or a dict of such lists for a
    model with several outputs; None after `reset` and `close`.
    """

    def __init__(self, errors: dict[int, CarouselError], *, rows: int, answers: Any = None) -> None:
        row = min(errors)
        super().__init__(f"{len(errors)} of {rows} rows failed; row {row}: {errors[row]}")
        self.errors = errors
        self.answers = answers
