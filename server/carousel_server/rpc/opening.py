"""Sessions that begin: at their model's initial state, or at another one."""

from __future__ import annotations

import time

import numpy as np

from carousel_server.catalog import Served
from carousel_server.engine import controls, transfers
from carousel_server.engine.checkpoints import NO_TOKEN, Gathered
from carousel_server.engine.columns import IntColumn
from carousel_server.engine.controls import Attached
from carousel_server.engine.sessions import Origin
from carousel_server.errors import SessionExists
from carousel_server.keeping.keeping import Keeping
from carousel_server.reading import States
from carousel_server.rpc.completing import completed


class Opening:
    """Opens sessions, here and in the store."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping

    async def open(
        self, model: Served, ids: list[str], states: States, applied: IntColumn | None = None
    ) -> Attached:
        """Open sessions, all or none.

        Args:
            model: whose sessions they are.
            ids: theirs.
            states: `[N, ...]` by name; states not named begin as the model says.
            applied: `[N]`, the steps that the states have taken in; None: none.

        Raises:
            SessionExists: an id is taken, here or, as far as the store knows, elsewhere.
            NoRoom: there are as many sessions as there may be.

        """
        # A client that goes away half-way leaves the sessions either open or not.
        return await completed(self._open(model, ids, states, applied))

    async def _open(
        self, model: Served, ids: list[str], states: States, applied: IntColumn | None
    ) -> Attached:
        async with self._keeping.passage.of(ids):
            origin = Origin(
                np.zeros(len(ids), np.int64) if applied is None else applied,
                self._keeping.first_tokens(len(ids)),
            )
            opened = await model.driver.control(controls.Open(ids, states, origin))
            begun = None
            if states:
                # Whoever takes the session over can't know them from the model.
                begun = (await model.driver.control(transfers.begun(opened.handles))).value
            if self._keeping.shared:
                await self._record(model, opened, ids, begun)
            elif begun:
                model.keeper.keep(begun)
            return opened

    async def _record(
        self, model: Served, opened: Attached, ids: list[str], begun: Gathered | None
    ) -> None:
        made = await self._keeping.create(model.keeper.recorder, ids, time.time(), begun)
        tokens = [NO_TOKEN] * len(ids) if made is None else made
        await model.driver.control(transfers.SetTokens(opened.handles, np.array(tokens)))
        if made is not None and not all(made):
            await self._take_back(model, opened, ids, made)

    async def _take_back(
        self, model: Served, opened: Attached, ids: list[str], tokens: list[int]
    ) -> None:
        """Close what was opened, leave alone what others have, and say so."""
        closed = (await model.driver.control(controls.close(opened.handles))).value
        if closed:
            own = {name for name, token in zip(ids, tokens, strict=True) if token}
            await self._keeping.delete(closed.only(own))
        raise SessionExists(ids[tokens.index(0)])
