"""Calls that name sessions by their handles: what is checked for all of them, in one place."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np

from carousel_server.catalog import Catalog, Served
from carousel_server.engine.controls import Acted, ByHandle
from carousel_server.engine.status import RowStatus
from carousel_server.errors import Draining
from carousel_server.lifecycle import Lifecycle

_Result = TypeVar("_Result")


class Named(Protocol):
    """What all such requests say."""

    model: str
    version: str
    server_id: int


class Handles:
    """Carries calls out on the sessions of handles."""

    def __init__(self, catalog: Catalog, lifecycle: Lifecycle) -> None:
        self._catalog = catalog
        self._lifecycle = lifecycle

    def model(self, request: Named | Any) -> Served:
        """Return the model that a request names.

        Raises:
            ModelNotFound: there is none.
            Draining: the server takes nothing new.

        """
        model = self._catalog.find(request.model, request.version)
        if self._lifecycle.draining:
            raise Draining
        return model

    async def act(
        self, request: Named | Any, model: Served, control: ByHandle[_Result]
    ) -> Acted[_Result]:
        """Carry a call out; handles that another process gave are all stale."""
        if request.server_id != self._lifecycle.server_id:
            stale = np.full(len(control.handles), RowStatus.STALE_HANDLE, np.uint8)
            return Acted(stale, None)
        acted: Acted[_Result] = await model.driver.control(control)
        return acted


def column(acted: Acted[Any]) -> bytes:
    """Return a status column as it travels: empty where all rows are OK."""
    return acted.status.tobytes() if acted.status.any() else b""
