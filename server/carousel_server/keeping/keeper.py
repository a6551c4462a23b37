"""One thread that talks to the store, so that nobody else has to wait for it.

There are two queues. *Writes* are carried out in order, and again until the store has taken them:
while it is away they wait; whoever makes them stops at a bound in bytes. *Questions* come before
them, and fail at once where the store is away: somebody waits for the answer. Checkpoints of many
small ticks that wait together are written together.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from carousel_server import log
from carousel_server.keeping.observer import KeepingObserver
from carousel_server.store.interface import Owner, Saves, Store, StoreUnavailable

_Result = TypeVar("_Result")

# Questions wait for the write that is under way, and a write for so many questions at most.
_ROWS_AT_ONCE = 4096
_BYTES_AT_ONCE = 8 << 20
_QUESTIONS_AT_ONCE = 16
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between attempts


@dataclass(eq=False, slots=True)
class _Question:
    ask: Callable[[Store], Any]
    answer: asyncio.Future[Any]


@dataclass(eq=False, slots=True)
class _Write:
    """Something to be written; checkpoints are `saves`, anything else is `carry_out`."""

    done: Callable[[list[bool]], None]  # on the loop
    nbytes: int
    rows: int
    saves: Callable[[], Saves] | None = None  # made on the keeper's thread
    carry_out: Callable[[Store], list[bool]] | None = None


class Keeper:
    """The queues and the thread. Any thread may put writes in; questions come from the loop."""

    def __init__(
        self,
        store: Store,
        owner: Owner,
        *,
        loop: asyncio.AbstractEventLoop,
        max_bytes: int,
        observer: KeepingObserver,
    ) -> None:
        """Start the thread; the store is used by it alone."""
        self._store = store
        self._owner = owner
        self._loop = loop
        self._max_bytes = max_bytes
        self._observer = observer
        self._changed = threading.Condition()
        self._questions: deque[_Question] = deque()
        self._writes: deque[_Write] = deque()
        self._nbytes = 0
        self._away = ""  # why the store does not answer
        self.failures = 0  # how often it did not
        self._asked = 0  # questions since the last write
        self._pause = 0.0  # seconds till the next attempt to write
        self._resume_at = 0.0  # when that is
        self._stopping = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether more checkpoints may wait."""
        return self._nbytes < self._max_bytes

    @property
    def place(self) -> str:
        """Where the store is, for people, without secrets."""
        return self._store.place

    @property
    def is_away(self) -> bool:
        """Whether the store did not answer when it was last asked."""
        return bool(self._away)

    @property
    def has_writes(self) -> bool:
        """Whether anything waits to be written, or is being written."""
        return bool(self._writes)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of checkpoints that wait to be written."""
        return self._nbytes

    def save(
        self,
        make: Callable[[], Saves],
        *,
        rows: int,
        nbytes: int,
        done: Callable[[list[bool]], None],
        at_once: bool = False,
    ) -> None:
        """Have checkpoints written; `done` is called on the loop with `Store.save`'s result.

        With `at_once` somebody waits: a store that was away is tried again without a pause.
        """
        self._put(_Write(done, nbytes, rows, saves=make), at_once=at_once)

    def write(
        self, carry_out: Callable[[Store], list[bool]], done: Callable[[list[bool]], None]
    ) -> None:
        """Have something else written, behind all that was put in before."""
        self._put(_Write(done, 0, 0, carry_out=carry_out))

    async def ask(self, ask: Callable[[Store], _Result]) -> _Result:
        """Ask the store something, before what waits to be written.

        Raises:
            StoreUnavailable: it does not answer.

        """
        future: asyncio.Future[_Result] = self._loop.create_future()
        with self._changed:
            if self._ended:
                raise StoreUnavailable("this server is going down")
            self._questions.append(_Question(ask, future))
            self._changed.notify()
        return await future

    async def stop(self, seconds: float) -> int:
        """End the thread when all is written, or after a time; return the writes that are left."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, seconds)
        return len(self._writes)

    def _put(self, write: _Write, *, at_once: bool = False) -> None:
        with self._changed:
            if at_once:
                self._resume_at = 0.0
            self._writes.append(write)
            self._nbytes += write.nbytes
            self._changed.notify()

    def _run(self) -> None:
        while (next_ := self._next()) is not None:
            if isinstance(next_, _Question):
                self._ask(next_)
            else:
                self._write(next_)

    def _next(self) -> _Question | list[_Write] | None:
        """Wait for what is to be done next, and return it; None: all is done, and no more comes."""
        with self._changed:
            while True:
                wait = self._resume_at - time.monotonic()
                may_write = bool(self._writes) and wait <= 0
                if self._questions and not (may_write and self._asked >= _QUESTIONS_AT_ONCE):
                    self._asked += 1
                    return self._questions.popleft()
                if may_write:
                    self._asked = 0
                    return self._next_batch()
                if self._stopping and not self._writes:
                    self._ended = True
                    return None
                self._changed.wait(wait if self._writes else None)

    def _ask(self, question: _Question) -> None:
        try:
            result = question.ask(self._store)
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
            if isinstance(error, StoreUnavailable):
                self._note_away(error)
            self._answer(question.answer.set_exception, question, error)
        else:
            self._note_back()
            self._answer(question.answer.set_result, question, result)

    def _answer(self, tell: Callable[[Any], None], question: _Question, what: Any) -> None:
        def on_loop() -> None:
            if not question.answer.done():
                tell(what)

        self._tell(on_loop)

    def _tell(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the server has gone, and what waited for the store is lost
            self._loop.call_soon_threadsafe(call)

    def _write(self, batch: list[_Write]) -> None:
        """Carry out what waits longest, or put it off."""
        began = time.monotonic()
        try:
            results = self._carry_out(batch)
        except Exception as error:  # noqa: BLE001 - this thread must go on: much waits for it
            self._note_away(error)
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._resume_at = time.monotonic() + self._pause
            return
        self._note_back()
        with self._changed:
            for write in batch:
                self._writes.popleft()
                self._nbytes -= write.nbytes
        rows = sum(write.rows for write in batch)
        if rows:
            kept = sum(map(sum, results))
            self._observer.saved(kept, rows - kept, time.monotonic() - began)
        self._tell(partial(_say, batch, results))

    def _next_batch(self) -> list[_Write]:
        """Return the first write, and those behind it that can be written with it."""
        batch: list[_Write] = []
        rows = nbytes = 0
        for write in self._writes:
            rows, nbytes = rows + write.rows, nbytes + write.nbytes
            full = rows > _ROWS_AT_ONCE or nbytes > _BYTES_AT_ONCE
            if batch and (full or write.saves is None):
                break
            batch.append(write)
            if write.saves is None:
                break
        return batch

    def _carry_out(self, batch: list[_Write]) -> list[list[bool]]:
        first = batch[0]
        if first.carry_out:
            return [first.carry_out(self._store)]
        parts = [write.saves() for write in batch if write.saves]
        kept = self._store.save(_together(parts), self._owner)
        results, begin = [], 0
        for part in parts:
            results.append(kept[begin : begin + len(part)])
            begin += len(part)
        return results

    def _note_away(self, error: Exception) -> None:
        if not self._away:
            known = isinstance(error, StoreUnavailable)
            log.get().error(
                "the store does not answer; sessions are not saved",
                why=str(error),
                exc_info=None if known else error,
            )
        self._away = str(error) or repr(error)
        self.failures += 1
        self._observer.store_is(up=False)

    def _note_back(self) -> None:
        if self._away:
            log.get().info("the store answers again", waiting_bytes=self._nbytes)
        self._away = ""
        self._pause = self._resume_at = 0.0
        self._observer.store_is(up=True)


def _say(batch: list[_Write], results: list[list[bool]]) -> None:
    for write, result in zip(batch, results, strict=True):
        write.done(result)


def _together(parts: list[Saves]) -> Saves:
    if len(parts) == 1:
        return parts[0]
    return Saves(
        ids=list(chain.from_iterable(part.ids for part in parts)),
        headers=list(chain.from_iterable(part.headers for part in parts)),
        tokens=list(chain.from_iterable(part.tokens for part in parts)),
        delivered=list(chain.from_iterable(part.delivered for part in parts)),
        checkpoints=list(chain.from_iterable(part.checkpoints for part in parts)),
        marks=list(chain.from_iterable(part.marks for part in parts)),
    )
