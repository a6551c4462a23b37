"""Whether sessions are still this server's, after its lease had run out.

Others may have taken them over meanwhile, and may even have ended them. The store tells when it is
written to: it refuses what is another's, and such sessions are given up here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from carousel_server import log
from carousel_server.catalog import Served
from carousel_server.engine import transfers
from carousel_server.errors import ModelUnloaded, StoreAway
from carousel_server.keeping.keeping import Keeping

_AT_ONCE = 1024  # sessions: ticks come between them


async def verify(keeping: Keeping, models: Iterable[Served]) -> None:
    """Save all sessions of some models, and so give up those that others have.

    Where the store goes away again, the doubt remains.
    """
    lapses = keeping.lapses
    try:
        for model in models:
            with suppress(ModelUnloaded):
                await _verify_model(model)
    except StoreAway as error:
        log.get().warning("it is not known which sessions others took over", why=str(error))
    else:
        keeping.verified(lapses)


async def _verify_model(model: Served) -> None:
    ids = await model.driver.control(transfers.Ids())
    for first in range(0, len(ids), _AT_ONCE):
        await verify_some(model, ids[first : first + _AT_ONCE])


async def verify_some(model: Served, ids: Sequence[str]) -> None:
    """Save those of some sessions that a model has, and so give up those that others have.

    Raises:
        StoreAway: the store does not answer.

    """
    gathered = await model.driver.control(transfers.Gather(ids))
    if gathered is not None:
        await model.keeper.kept(gathered)
