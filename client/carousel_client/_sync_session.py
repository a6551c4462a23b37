"""Sessions for programs with threads."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from carousel_client._block import Block, Roster
from carousel_client._columns import Ints
from carousel_client._controls import (
    CLOSE,
    DETACH,
    GET_STATE,
    RESET,
    SNAPSHOT,
    Control,
    Result,
    mark,
    rewind,
)
from carousel_client._errors import CarouselError, Unavailable
from carousel_client._kinds import check_source
from carousel_client._session import (
    GroupView,
    SessionView,
    check,
    check_window,
    row_of,
    still_ours,
    wanted,
)
from carousel_client._sync_link import Link

_log = logging.getLogger("carousel_client")


class ClosedAfterwards(ABC):
    """Sessions that are closed at the end of a `with` block, without hiding what ended it."""

    @abstractmethod
    def close(self) -> None:
        """End them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Unavailable):  # there is nobody to ask, and asking takes its time
            return
        try:
            self.close()
        except CarouselError as failure:
            if error is None:
                raise
            _log.warning("could not close %r: %s", self, failure)


class Session(SessionView, ClosedAfterwards):
    """One session. Its methods may be called from any thread; steps run in the order of calls."""

    def __init__(self, link: Link, roster: Roster) -> None:
        super().__init__(roster)
        self._link = link

    def step(self, x: Any, *, timeout: float | None = None) -> Any:
        """Run one step or several, and return their answers.

        `x` is `[*step]` or `[T, *step]`, and the answer `[*output]` or `[T, *output]`; a model with
        several inputs takes a dict of such arrays, one with several outputs gives one. Where the
        model has a vocabulary, a string goes in too, and `Classes` come back. `timeout` is in
        seconds, None for as long as it takes.

        Raises InvalidInput, SessionError, StepError, Busy, DeadlineExceeded, ConnectionLost; what
        was answered before the failure is in the error's `answers`.
        """
        return self._link.ask(self._block(x, timeout), grouped=False)

    def stream(
        self, xs: Iterable[Any], *, window: int = 64, timeout: float | None = None
    ) -> Generator[Any, None, None]:
        """Yield the answer to each of `xs`, in order, reading ahead by up to `window` of them.

        Each of `xs` is what `step` takes. `xs` is read in a thread of its own, so an answer is
        there as soon as the server gives it, however long the next input takes. `timeout` is for
        each of them, in seconds. Raises what `step` raises, and what `xs` raises.
        """
        check_window(window)
        check_source(xs, "what is streamed")
        return self._stream(xs, window, timeout)

    def reset(self) -> None:
        """Put the session back to its initial state, step 0, after the steps called before."""
        self._control(RESET, self._meant())

    def snapshot(self) -> bytes:
        """Return the session's state, to be kept outside of the server.

        `Client.restore` makes a session of it, at any server that has a model with the same states.
        """
        return (self._control(SNAPSHOT, self._meant())).snapshots[0]

    def get_state(self) -> dict[str, Any]:
        """Return the session's states by name, as arrays `[*state]`: see `info.states`."""
        return row_of((self._control(GET_STATE, self._meant())).states, 0)

    def mark(self, name: str) -> int:
        """Give the place where the session stands a name, and return its step.

        A mark of that name is moved. Raises InvalidInput, ResourceExhausted.
        """
        return int((self._control(mark(name), self._meant())).applied[0])

    def rewind(self, to: str | int) -> int:
        """Go back to a mark, or to the newest checkpoint at or before a step; return the step.

        The next step runs from there. Raises MarkNotFound, and the session stays where it is.
        """
        return int((self._control(rewind(to), self._meant())).applied[0])

    def fork(self, sessions: int | Sequence[str], *, resume: bool | None = None) -> SessionGroup:
        """Open N copies of the session, by number or by ids, that go on from where it stands.

        Raises SessionExists, ResourceExhausted.
        """
        return SessionGroup(
            self._link, self._link.fork(self._roster, wanted(sessions), resume=resume)
        )

    def fork_one(self, id: str | None = None, *, resume: bool | None = None) -> Session:  # noqa: A002
        """Open one copy of the session, that goes on from where it stands. Raises as `fork`."""
        return Session(self._link, self._link.fork(self._roster, [id], resume=resume))

    def close(self, *, keep: bool = False) -> None:
        """End the session for good; a session that is gone already is no error.

        With `keep` it is saved and only ends here: it goes on with whoever attaches to it.
        """
        rows = self._live()
        if len(rows):
            result = self._link.control(DETACH if keep else CLOSE, self._roster, rows)
            check(still_ours(result.errors), rows=1, grouped=False)

    def detach(self) -> None:
        """Leave the session to whoever attaches to it next: `close(keep=True)`."""
        self.close(keep=True)

    def _control(self, control: Control, rows: Ints) -> Result:
        result = self._link.control(control, self._roster, rows)
        check(result.errors, rows=1, grouped=False)
        return result

    def _stream(
        self, xs: Iterable[Any], window: int, timeout: float | None
    ) -> Generator[Any, None, None]:
        started: SimpleQueue[tuple[Block, threading.Lock] | BaseException | None] = SimpleQueue()
        places = threading.Semaphore(window)
        ended = threading.Event()

        def read_ahead() -> None:
            try:
                source = iter(xs)
                while True:
                    places.acquire()
                    if ended.is_set():
                        return
                    block = self._block(next(source), timeout, copy=True)
                    started.put((block, self._link.start(block)))
            except StopIteration:
                started.put(None)
            except BaseException as error:  # noqa: BLE001, raised where the answers are read
                started.put(error)

        threading.Thread(target=read_ahead, name="carousel-read-ahead", daemon=True).start()
        try:
            while (item := started.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                answer = self._link.wait(*item, grouped=False)
                places.release()
                yield answer
        finally:
            ended.set()
            places.release()


class SessionGroup(GroupView, ClosedAfterwards):
    """N sessions stepped together, each message carrying as many rows as the server takes.

    Its methods may be called from any thread; steps run in the order of calls.
    """

    def __init__(self, link: Link, roster: Roster) -> None:
        super().__init__(roster)
        self._link = link

    def step(self, x: Any, *, timeout: float | None = None) -> Any:
        """Run steps of every session, and return their answers.

        `x` is `[N, *step]`, `[N, T, *step]`, or a list of N arrays `[T_i, *step]` where T_i may be
        0 for a session that has no steps now; answers come in the same form. Several inputs or
        outputs: dicts of such. With a vocabulary a list of N strings goes in too. `timeout` is in
        seconds, None for as long as it takes.

        Raises InvalidInput, and GroupError with each failed row's error and all answers.
        """
        return self._link.ask(self._block(x, timeout), grouped=True)

    def reset(self, rows: Iterable[int] | None = None) -> None:
        """Put sessions, all or those of these rows, back to step 0. Raises GroupError."""
        self._control(RESET, self._meant(rows))

    def snapshot(self) -> list[bytes]:
        """Return the sessions' states, N, to be kept outside of the server. Raises GroupError."""
        return (self._control(SNAPSHOT, self._meant())).snapshots

    def get_state(self) -> dict[str, Any]:
        """Return the sessions' states by name, as arrays `[N, *state]`. Raises GroupError."""
        return (self._control(GET_STATE, self._meant())).states

    def mark(self, name: str) -> Any:
        """Give the places where the sessions stand a name; return their steps, (N,).

        Raises InvalidInput, ResourceExhausted, GroupError.
        """
        return (self._control(mark(name), self._meant())).applied

    def rewind(self, to: str | int, rows: Iterable[int] | None = None) -> Any:
        """Go back to a mark, or to each one's newest checkpoint at or before a step.

        All sessions, or those of these rows; returns where each one stands, (N,). Raises
        GroupError with a MarkNotFound for each that stays where it is.
        """
        self._control(rewind(to), self._meant(rows))
        return self.applied

    def close(self, *, keep: bool = False) -> None:
        """End all sessions for good; with `keep`, here only. Raises GroupError."""
        chosen = self._live()
        if len(chosen):
            result = self._link.control(DETACH if keep else CLOSE, self._roster, chosen)
            check(still_ours(result.errors), rows=len(self), grouped=True)

    def detach(self) -> None:
        """Leave the sessions to whoever attaches to them next: `close(keep=True)`."""
        self.close(keep=True)

    def _control(self, control: Control, rows: Ints) -> Result:
        if not len(rows):
            return Result(self._roster)
        result = self._link.control(control, self._roster, rows)
        check(result.errors, rows=len(self), grouped=True)
        return result


def step_each(sessions: Iterable[Session], xs: Iterable[Any]) -> list[Any]:
    """Step several sessions at once, each with one of `xs`, and return their answers in order.

    All are on their way before the first answer is awaited. Raises what `Session.step` raises.
    """
    started = []
    for session, x in zip(sessions, xs, strict=True):
        block = session._block(x, None)
        started.append((session._link, block, session._link.start(block)))
    return [link.wait(block, ready, grouped=False) for link, block, ready in started]
