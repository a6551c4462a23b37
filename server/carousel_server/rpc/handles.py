"""Calls that name sessions by their handles: what is checked for all of them, in one place."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from carousel.v1 import states_pb2
from carousel_server.catalog import Catalog, Served, first_handle
from carousel_server.engine.controls import Acted, ByHandle
from carousel_server.engine.status import RowStatus
from carousel_server.lifecycle import Lifecycle

_Result = TypeVar("_Result")


class Handles:
    """Carries calls out on the sessions of handles.

    Requests are any that have `model`, `version`, `server_id` and handles.
    """

    def __init__(self, catalog: Catalog, lifecycle: Lifecycle) -> None:
        self._catalog = catalog
        self._lifecycle = lifecycle

    def model(self, request: Any) -> Served:
        """Return the model that a request names.

        Raises:
            ModelNotFound: there is none.
            Draining: the server takes nothing new.

        """
        one = isinstance(request, states_pb2.ForkRequest)
        handle = request.handle if one else first_handle(request.handles)
        model = self._catalog.find_running(request.model, request.version, handle)
        self._lifecycle.refuse_when_draining()
        return model

    async def act(self, request: Any, model: Served, control: ByHandle[_Result]) -> Acted[_Result]:
        """Carry a call out; handles that another process gave are all stale."""
        if request.server_id != self._lifecycle.server_id:
            stale = np.full(len(control.handles), RowStatus.STALE_HANDLE, np.uint8)
            return Acted(stale, None)
        acted: Acted[_Result] = await model.driver.control(control)
        return acted


def column(acted: Acted[Any]) -> bytes:
    """Return a status column as it travels: empty where all rows are OK."""
    return acted.status.tobytes() if acted.status.any() else b""
