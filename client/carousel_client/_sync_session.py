"""Sessions for programs with threads."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from carousel_client._block import Block, Roster
from carousel_client._calls import CLOSE, RESET
from carousel_client._errors import CarouselError, Unavailable
from carousel_client._session import GroupView, SessionView, check, check_window, still_ours
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
        several inputs takes a dict of such arrays, one with several outputs gives one. `timeout` is
        in seconds, None for as long as it takes.

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
        return self._stream(xs, window, timeout)

    def reset(self) -> None:
        """Put the session back to its initial state, step 0, after the steps called before."""
        check(self._link.control(RESET, self._roster, self._meant()), rows=1, grouped=False)

    def close(self) -> None:
        """End the session for good; a session that is gone already is no error."""
        rows = self._live()
        if len(rows):
            errors = self._link.control(CLOSE, self._roster, rows)
            check(still_ours(errors), rows=1, grouped=False)

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
        outputs: dicts of such. `timeout` is in seconds, None for as long as it takes.

        Raises InvalidInput, and GroupError with each failed row's error and all answers.
        """
        return self._link.ask(self._block(x, timeout), grouped=True)

    def reset(self, rows: Iterable[int] | None = None) -> None:
        """Put sessions, all or those of these rows, back to step 0. Raises GroupError."""
        chosen = self._meant(rows)
        if len(chosen):
            check(self._link.control(RESET, self._roster, chosen), rows=len(self), grouped=True)

    def close(self) -> None:
        """End all sessions for good. Raises GroupError."""
        chosen = self._live()
        if len(chosen):
            errors = self._link.control(CLOSE, self._roster, chosen)
            check(still_ours(errors), rows=len(self), grouped=True)
