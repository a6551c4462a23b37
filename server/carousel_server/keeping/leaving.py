"""Sessions that leave this server, saved, for whoever takes them up."""

from __future__ import annotations

from carousel_server import log
from carousel_server.catalog import Served
from carousel_server.engine import transfers
from carousel_server.engine.checkpoints import Gathered
from carousel_server.errors import StoreAway
from carousel_server.keeping.keeping import Keeping

_AT_ONCE = 2048  # sessions: their states are in memory twice while they are saved


async def leave(keeping: Keeping, model: Served, gathered: Gathered) -> None:
    """Save sessions whose handles are invalid, end them here, and let others claim them.

    Raises:
        StoreAway: the store does not answer; the sessions are still here, and can be attached to.

    """
    await model.keeper.kept(gathered, patiently=True)
    ended = await model.driver.control(transfers.GiveUp(gathered))
    await keeping.release(ended)


async def leave_all(keeping: Keeping, model: Served) -> int:
    """Let all sessions of a model leave; return how many could not be saved."""
    ids = await model.driver.control(transfers.Ids())
    left = 0
    for first in range(0, len(ids), _AT_ONCE):
        gathered = await model.driver.control(transfers.Leave(ids[first : first + _AT_ONCE]))
        if gathered is None:
            continue
        try:
            await leave(keeping, model, gathered)
        except StoreAway:
            left += len(gathered.ids)
    log.get().info("sessions left", model=model.name, sessions=len(ids) - left, lost=left)
    return left
