"""Sessions for asyncio."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
)
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

from carousel_client._aio_link import Link
from carousel_client._block import Block, Roster
from carousel_client._calls import CLOSE, RESET, Flow
from carousel_client._errors import CarouselError, Unavailable
from carousel_client._session import GroupView, SessionView, check, check_window, still_ours

_log = logging.getLogger("carousel_client")

_Started: TypeAlias = tuple[Block, "asyncio.Future[None]"]


class ClosedAfterwards(ABC):
    """Sessions that are closed at the end of a `with` block, without hiding what ended it."""

    @abstractmethod
    async def close(self) -> None:
        """End them."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Unavailable):  # there is nobody to ask, and asking takes its time
            return
        try:
            await self.close()
        except CarouselError as failure:
            if error is None:
                raise
            _log.warning("could not close %r: %s", self, failure)


class Session(SessionView, ClosedAfterwards):
    """One session. Steps run in the order of calls; use it on its client's event loop only."""

    def __init__(self, link: Link, roster: Roster) -> None:
        super().__init__(roster)
        self._link = link

    async def step(self, x: Any, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """Run one step or several, and return their answers.

        `x` is `[*step]` or `[T, *step]`, and the answer `[*output]` or `[T, *output]`; a model with
        several inputs takes a dict of such arrays, one with several outputs gives one. `timeout` is
        in seconds, None for as long as it takes. Steps of many sessions called in one turn of the
        event loop travel in one message.

        Raises InvalidInput, SessionError, StepError, Busy, DeadlineExceeded, ConnectionLost; what
        was answered before the failure is in the error's `answers`.
        """
        return await self._link.ask(self._block(x, timeout), grouped=False)

    def stream(
        self,
        xs: Iterable[Any] | AsyncIterable[Any],
        *,
        window: int = 64,
        timeout: float | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Yield the answer to each of `xs`, in order, reading ahead by up to `window` of them.

        Each of `xs` is what `step` takes; a plain iterable must not block. `timeout` is for each of
        them, in seconds. Raises what `step` raises, and what `xs` raises.
        """
        check_window(window)
        return self._stream(xs, window, timeout)

    async def reset(self) -> None:
        """Put the session back to its initial state, step 0, after the steps called before."""
        errors = await self._link.control(RESET, self._roster, self._meant())
        check(errors, rows=1, grouped=False)

    async def close(self) -> None:
        """End the session for good; a session that is gone already is no error."""
        rows = self._live()
        if len(rows):
            errors = await self._link.control(CLOSE, self._roster, rows)
            check(still_ours(errors), rows=1, grouped=False)

    async def _stream(
        self,
        xs: Iterable[Any] | AsyncIterable[Any],
        window: int,
        timeout: float | None,  # noqa: ASYNC109
    ) -> AsyncGenerator[Any, None]:
        started: asyncio.Queue[_Started | BaseException | None] = asyncio.Queue()
        places = asyncio.Semaphore(window)
        source = _each(xs)

        async def read_ahead() -> None:
            try:
                while True:
                    await places.acquire()
                    block = self._block(await anext(source), timeout, copy=True)
                    started.put_nowait((block, self._link.start(block)))
            except StopAsyncIteration:
                started.put_nowait(None)
            except Exception as error:  # noqa: BLE001, raised where the answers are read
                started.put_nowait(error)

        reader = asyncio.create_task(read_ahead(), name="carousel-read-ahead")
        try:
            while (item := await started.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                answer = await self._link.wait(*item, grouped=False)
                places.release()
                yield answer
        finally:
            reader.cancel()
            await asyncio.wait([reader])


class SessionGroup(GroupView, ClosedAfterwards):
    """N sessions stepped together, each message carrying as many rows as the server takes.

    Steps run in the order of calls; use it on its client's event loop only.
    """

    def __init__(self, link: Link, roster: Roster) -> None:
        super().__init__(roster)
        self._link = link

    async def step(self, x: Any, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """Run steps of every session, and return their answers.

        `x` is `[N, *step]`, `[N, T, *step]`, or a list of N arrays `[T_i, *step]` where T_i may be
        0 for a session that has no steps now; answers come in the same form. Several inputs or
        outputs: dicts of such. `timeout` is in seconds, None for as long as it takes.

        Raises InvalidInput, and GroupError with each failed row's error and all answers.
        """
        return await self._link.ask(self._block(x, timeout), grouped=True)

    async def reset(self, rows: Iterable[int] | None = None) -> None:
        """Put sessions, all or those of these rows, back to step 0. Raises GroupError."""
        chosen = self._meant(rows)
        if len(chosen):
            errors = await self._link.control(RESET, self._roster, chosen)
            check(errors, rows=len(self), grouped=True)

    async def close(self) -> None:
        """End all sessions for good. Raises GroupError."""
        chosen = self._live()
        if len(chosen):
            errors = await self._link.control(CLOSE, self._roster, chosen)
            check(still_ours(errors), rows=len(self), grouped=True)


S = TypeVar("S", Session, SessionGroup)


class Opening(Generic[S]):
    """Sessions about to be opened: `await` it to have them, or enter it to close them after."""

    def __init__(self, link: Link, flow: Flow[Roster], make: Callable[[Link, Roster], S]) -> None:
        self._link = link
        self._flow = flow
        self._make: Callable[[Link, Roster], S] = make
        self._opened: S | None = None

    def __await__(self) -> Generator[Any, None, S]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> S:
        self._opened = self._make(self._link, await self._link.run(self._flow))
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.__aexit__(kind, error, trace)


async def _each(xs: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(xs, AsyncIterable):
        async for x in xs:
            yield x
    else:
        for x in xs:
            yield x
