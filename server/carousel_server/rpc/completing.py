"""Work that goes on to its end, also when the client that asked for it has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from carousel_server import log
from carousel_server.errors import CarouselError

_Result = TypeVar("_Result")


async def completed(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what work returns; it is not cancelled with whoever waits for it.

    What it raises when nobody waits any more is logged: there is no one else to tell, and asyncio
    would complain, with a traceback, of an exception that was never retrieved.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_log_error)
        raise


def _log_error(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, CarouselError):
        log.get().info("a client went before it was refused", why=str(error))
    elif error is not None:
        log.get().error("a call failed after its client had gone", exc_info=error)
