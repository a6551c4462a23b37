"""What `carousel_client.text` does, for asyncio: `carousel.aio.text`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from carousel_client._aio_session import Session
from carousel_client._classes import Chance
from carousel_client._writing import Heirs, Hypothesis, Language, Search, Writer

__all__ = ["Hypothesis", "beam", "generate", "write"]

T = TypeVar("T")


async def generate(
    session: Session,
    prompt: str,
    length: int,
    *,
    temperature: float = 1.0,
    rng: Chance = None,
) -> str:
    """Return `length` symbols of text that follow on `prompt`: see `text.generate`."""
    pieces = write(session, prompt, length, temperature=temperature, rng=rng)
    return "".join([piece async for piece in pieces])


async def write(
    session: Session,
    prompt: str,
    length: int,
    *,
    temperature: float = 1.0,
    rng: Chance = None,
) -> AsyncIterator[str]:
    """Yield the text that `generate` returns, a symbol at a time: see `text.write`."""
    writer = Writer(session.info, length, temperature, rng)
    answer = await _read(session, writer.language, prompt)
    for _ in range(length):
        number = writer.next(answer)
        answer = await session.step(writer.language.step(number))
        yield writer.language.text([number])


async def beam(session: Session, prompt: str, length: int, *, beams: int = 4) -> list[Hypothesis]:
    """Return the most probable texts of `length` symbols that follow on `prompt`, best first.

    See `text.beam`. Each round of steps shares one message.
    """
    search = Search(session.info, length, beams)
    heirs = search.extend([await _read(session, search.language, prompt)])
    forks: list[Session] = []
    async with AsyncExitStack() as stack:  # closes every fork, whatever happens
        for _ in range(length - 1):
            forks = await _inherit(forks, session, heirs, stack)
            steps = map(search.language.step, heirs.symbols)
            rounds = zip(forks, steps, strict=True)
            heirs = search.extend(await _all(fork.step(step) for fork, step in rounds))
    return search.hypotheses()


async def _read(session: Session, language: Language, prompt: str) -> Any:
    answer = None
    for chunk in language.prompt(prompt):
        answer = await session.step(chunk)
    return answer


async def _inherit(
    before: list[Session], root: Session, heirs: Heirs, stack: AsyncExitStack
) -> list[Session]:
    """Return a session for each heir, where its parent's is: the parent's own, or a fork of it.

    Without any before, all are forks of the root.
    """

    async def heir(parent: int, *, first: bool) -> Session:
        if not before:
            return await stack.enter_async_context(root.fork_one())
        parents = before[parent]
        return parents if first else await stack.enter_async_context(parents.fork_one())

    pairs = zip(heirs.parents, heirs.first, strict=True)
    forks = await _all(heir(parent, first=first) for parent, first in pairs)
    if before:
        await _all(before[childless].close() for childless in heirs.childless)
    return forks


async def _all(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """Return all results once all have ended, or raise the first one's error that failed."""
    found = await asyncio.gather(*awaitables, return_exceptions=True)
    results: list[T] = []
    for one in found:
        if isinstance(one, BaseException):
            raise one
        results.append(one)
    return results
