"""What both shells' links to a server have in common: who it is, and what its end means."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

from carousel.v1 import sessions_pb2 as pb
from carousel_client._errors import (
    CarouselError,
    ConnectionLost,
    ServerError,
    Unavailable,
)
from carousel_client._exchange import Exchange
from carousel_client._flows import Flows
from carousel_client._models import ServerInfo, drain
from carousel_client._options import Options

log = logging.getLogger("carousel_client")

STREAM = "/carousel.v1.SessionService/Stream"

#: Failures of a stream after which another attempt makes sense.
_PASSING_CODES = frozenset({"CANCELLED", "UNKNOWN", "INTERNAL", "ABORTED"})


class LinkBase:
    """The server in use, and what waits for it."""

    def __init__(self, addresses: list[str], options: Options) -> None:
        self.options = options
        self.flows = Flows(addresses, options)
        self.server: ServerInfo
        self.exchange: Exchange
        self._address = 0

    @property
    def address(self) -> str:
        """Return the address of the server in use."""
        return self.flows.addresses[self._address]

    def _found(self, address: int, server: ServerInfo) -> None:
        """Note which server there is."""
        if not hasattr(self, "exchange"):
            self.exchange = Exchange(
                server.limits,
                server.server_id,
                max_message_bytes=self.options.max_message_bytes,
                patience=self.options.timeout,
            )
        elif server.server_id != self.server.server_id:
            log.warning("%s is another server than before", self.flows.addresses[address])
        self._address, self.server = address, server
        self.exchange.connect(server.limits, server.server_id)

    def _drained(self, notice: pb.DrainNotice) -> None:
        found = drain(notice)
        log.warning(
            "%s goes down in %.0f s at the latest; its sessions are %s",
            self.address,
            found.leaves_in,
            f"saved to {found.saved_to}" if found.saved_to else "lost then",
        )
        if self.options.on_drain is not None:
            try:
                self.options.on_drain(found)
            except Exception:
                log.exception("on_drain failed")

    def _ended(self, error: CarouselError) -> Callable[[], CarouselError]:
        """Return what makes the error of those who waited when the stream ended for good."""
        if not passing(error):
            return lambda: copy.copy(error)
        return lambda: ConnectionLost(
            f"the connection to {self.address} broke and did not come back within "
            f"{self.options.timeout:g} s ({error}); the steps may have been run: `applied` tells, "
            "once the server answers again"
        )


def passing(error: CarouselError) -> bool:
    """Whether a stream that ended so is worth another attempt."""
    if isinstance(error, ServerError):
        return error.code in _PASSING_CODES
    return isinstance(error, Unavailable | TimeoutError)


class Attempts:
    """How often a broken stream is opened again: until one has been answered, or time is up."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._since: float | None = None
        self._delays = options.backoff.delays()

    def next(self, error: CarouselError, *, heard: bool, now: float) -> float | None:
        """Return how long to wait before the next attempt, in seconds, or None to give up.

        `heard` says whether the stream that ended with `error` brought any answers.
        """
        if heard:
            self._since, self._delays = None, self._options.backoff.delays()
        self._since = now if self._since is None else self._since
        worth = self._options.reconnect and passing(error)
        if not worth or now - self._since > self._options.timeout:
            return None
        return next(self._delays)
