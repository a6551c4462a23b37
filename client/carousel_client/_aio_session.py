"""Sessions for asyncio."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Sequence,
)
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

from carousel_client._aio_link import Link
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
        several inputs takes a dict of such arrays, one with several outputs gives one. Where the
        model has a vocabulary, a string goes in too, and `Classes` come back. `timeout` is in
        seconds, None for as long as it takes. Steps of many sessions called in one turn of the
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
        check_source(xs, "what is streamed")
        return self._stream(xs, window, timeout)

    async def reset(self) -> None:
        """Put the session back to its initial state, step 0, after the steps called before."""
        await self._control(RESET, self._meant())

    async def snapshot(self) -> bytes:
        """Return the session's state, to be kept outside of the server.

        `Client.restore` makes a session of it, at any server that has a model with the same states.
        """
        return (await self._control(SNAPSHOT, self._meant())).snapshots[0]

    async def get_state(self) -> dict[str, Any]:
        """Return the session's states by name, as arrays `[*state]`: see `info.states`."""
        return row_of((await self._control(GET_STATE, self._meant())).states, 0)

    async def mark(self, name: str) -> int:
        """Give the place where the session stands a name, and return its step.

        A mark of that name is moved. Raises InvalidInput, ResourceExhausted.
        """
        return int((await self._control(mark(name), self._meant())).applied[0])

    async def rewind(self, to: str | int) -> int:
        """Go back to a mark, or to the newest checkpoint at or before a step; return the step.

        The next step runs from there. Raises MarkNotFound, and the session stays where it is.
        """
        return int((await self._control(rewind(to), self._meant())).applied[0])

    def fork(
        self, sessions: int | Sequence[str], *, resume: bool | None = None
    ) -> Opening[SessionGroup]:
        """Open N copies of the session, by number or by ids, that go on from where it stands.

        Raises SessionExists, ResourceExhausted.
        """
        ids = wanted(sessions)
        return Opening(
            self._link, lambda: self._link.fork(self._roster, ids, resume=resume), SessionGroup
        )

    def fork_one(self, id: str | None = None, *, resume: bool | None = None) -> Opening[Session]:  # noqa: A002
        """Open one copy of the session, that goes on from where it stands. Raises as `fork`."""
        return Opening(
            self._link, lambda: self._link.fork(self._roster, [id], resume=resume), Session
        )

    async def close(self, *, keep: bool = False) -> None:
        """End the session for good; a session that is gone already is no error.

        With `keep` it is saved and only ends here: it goes on with whoever attaches to it.
        """
        rows = self._live()
        if len(rows):
            result = await self._link.control(DETACH if keep else CLOSE, self._roster, rows)
            check(still_ours(result.errors), rows=1, grouped=False)

    async def detach(self) -> None:
        """Leave the session to whoever attaches to it next: `close(keep=True)`."""
        await self.close(keep=True)

    async def _control(self, control: Control, rows: Ints) -> Result:
        result = await self._link.control(control, self._roster, rows)
        check(result.errors, rows=1, grouped=False)
        return result

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
        outputs: dicts of such. With a vocabulary a list of N strings goes in too. `timeout` is in
        seconds, None for as long as it takes.

        Raises InvalidInput, and GroupError with each failed row's error and all answers.
        """
        return await self._link.ask(self._block(x, timeout), grouped=True)

    async def reset(self, rows: Iterable[int] | None = None) -> None:
        """Put sessions, all or those of these rows, back to step 0. Raises GroupError."""
        await self._control(RESET, self._meant(rows))

    async def snapshot(self) -> list[bytes]:
        """Return the sessions' states, N, to be kept outside of the server. Raises GroupError."""
        return (await self._control(SNAPSHOT, self._meant())).snapshots

    async def get_state(self) -> dict[str, Any]:
        """Return the sessions' states by name, as arrays `[N, *state]`. Raises GroupError."""
        return (await self._control(GET_STATE, self._meant())).states

    async def mark(self, name: str) -> Any:
        """Give the places where the sessions stand a name; return their steps, (N,).

        Raises InvalidInput, ResourceExhausted, GroupError.
        """
        return (await self._control(mark(name), self._meant())).applied

    async def rewind(self, to: str | int, rows: Iterable[int] | None = None) -> Any:
        """Go back to a mark, or to each one's newest checkpoint at or before a step.

        All sessions, or those of these rows; returns where each one stands, (N,). Raises
        GroupError with a MarkNotFound for each that stays where it is.
        """
        await self._control(rewind(to), self._meant(rows))
        return self.applied

    async def close(self, *, keep: bool = False) -> None:
        """End all sessions for good; with `keep`, here only. Raises GroupError."""
        chosen = self._live()
        if len(chosen):
            result = await self._link.control(DETACH if keep else CLOSE, self._roster, chosen)
            check(still_ours(result.errors), rows=len(self), grouped=True)

    async def detach(self) -> None:
        """Leave the sessions to whoever attaches to them next: `close(keep=True)`."""
        await self.close(keep=True)

    async def _control(self, control: Control, rows: Ints) -> Result:
        if not len(rows):
            return Result(self._roster)
        result = await self._link.control(control, self._roster, rows)
        check(result.errors, rows=len(self), grouped=True)
        return result


S = TypeVar("S", Session, SessionGroup)


class Opening(Generic[S]):
    """Sessions about to be opened: `await` it to have them, or enter it to close them after."""

    def __init__(
        self,
        link: Link,
        begin: Callable[[], Awaitable[Roster]],
        make: Callable[[Link, Roster], S],
    ) -> None:
        self._link = link
        self._begin: Callable[[], Awaitable[Roster]] = begin
        self._make: Callable[[Link, Roster], S] = make
        self._opened: S | None = None

    def __await__(self) -> Generator[Any, None, S]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> S:
        self._opened = self._make(self._link, await self._begin())
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
