"""Stepping a session through a source, and leaving out the steps that the model refuses.

A step that fails leaves the session where it was, so whatever comes behind it can be run as if it
had never been there. Where a chunk of several fails as a whole it is run by halves, down to the
step at fault. Nothing is sent before what stands before it is answered: a stream that reads ahead
could not take back what is on its way. What has come meanwhile is sent together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

import carousel_client as carousel

#: What the model, or the server for it, says of an input.
REFUSALS = (carousel.NumericFault, carousel.ModelError, carousel.InvalidInput)

# The most steps that are sent at a time unless the user says otherwise, and chunks read ahead.
_WINDOW = 64


def steps_in(arrays: Any) -> int:
    """Return how many steps inputs or answers hold: (T, ...), or a dict of such."""
    return len(next(iter(arrays.values())) if isinstance(arrays, dict) else arrays)


def answers(
    session: carousel.Session,
    chunks: Iterable[Any],
    refused: Callable[[carousel.CarouselError], None],
    *,
    most: int | None,
) -> Generator[Any, None, None]:
    """Yield the answers to chunks of steps, as `Session.stream` does; some may come together.

    `refused` is told of each step that was left out, between the answers before and behind it.
    `most` is how many steps are sent at a time. Raises what `Session.step` and `chunks` raise.
    """
    ahead = _Ahead(chunks)
    try:
        while parts := ahead.take(most or _WINDOW):
            yield from _run(session, _joined(parts), refused)
    finally:
        ahead.end()


def _run(
    session: carousel.Session, chunk: Any, refused: Callable[[carousel.CarouselError], None]
) -> Iterator[Any]:
    waiting = [chunk]
    while waiting:
        part = waiting.pop()
        try:
            yield session.step(part)
            continue
        except REFUSALS as error:
            failure = error
        done = 0
        if failure.answers is not None:
            done = steps_in(failure.answers)
            yield failure.answers
        left = steps_in(part) - done
        if left == 1:
            refused(failure)
        else:
            middle = done + left // 2
            waiting += [_cut(part, middle, None), _cut(part, done, middle)]


class _Ahead:
    """Chunks read in a thread of its own, up to a window of them before they are taken."""

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._found: SimpleQueue[Any] = SimpleQueue()  # chunks; at the end an error, or None
        self._places = threading.Semaphore(_WINDOW)
        self._over = False
        self._failure: BaseException | None = None
        threading.Thread(
            target=self._read, args=[chunks], name="carousel-read-ahead", daemon=True
        ).start()

    def take(self, most: int) -> list[Any]:
        """Return the chunks that are there, of `most` steps or little more; wait for the first.

        None at all at the end. Raises what reading raised, once all before that was taken.
        """
        parts: list[Any] = []
        steps = 0
        while steps < most and not self._over:
            try:
                item = self._found.get(block=not parts)
            except Empty:
                break
            if item is None or isinstance(item, BaseException):
                self._over, self._failure = True, item
                break
            self._places.release()
            parts.append(item)
            steps += steps_in(item)
        if not parts and self._failure is not None:
            raise self._failure
        return parts

    def end(self) -> None:
        """Read no more."""
        self._over = True
        self._places.release()

    def _read(self, chunks: Iterable[Any]) -> None:
        try:
            for chunk in chunks:
                self._places.acquire()
                if self._over:
                    return
                self._found.put(chunk)
            self._found.put(None)
        except BaseException as error:  # noqa: BLE001, raised where the chunks are taken
            self._found.put(error)


def _joined(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


def _cut(chunk: Any, begin: int, end: int | None) -> Any:
    if isinstance(chunk, dict):
        return {name: array[begin:end] for name, array in chunk.items()}
    return chunk[begin:end]
