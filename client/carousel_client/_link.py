"""What both shells' links have in common: what there is to say about servers."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from urllib.parse import quote

import numpy as np

from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._errors import CarouselError, ConnectionLost
from carousel_client._exchange import Exchange
from carousel_client._flows import Flows
from carousel_client._hosts import Host
from carousel_client._models import drain
from carousel_client._moving import Moving
from carousel_client._options import Options
from carousel_client._tls import Trust

log = logging.getLogger("carousel_client")

#: How long to wait before servers are asked again what the store covers, in seconds.
_REFRESH_SECONDS = 0.5

#: The header with a session's id, percent-encoded as in URLs: header values are ASCII.
AFFINITY = "x-carousel-session"

STREAM = "/carousel.v1.SessionService/Stream"


class LinkBase:
    """Everything of one client but the connections."""

    def __init__(self, given: Sequence[str], options: Options) -> None:
        self.options = options
        self._trust = Trust(options.tls, options.credentials)
        self.exchange = Exchange(
            max_message_bytes=options.max_message_bytes,
            patience=options.timeout,
            replay_bytes=options.replay_bytes,
        )
        self.flows = Flows(given, options, self.exchange)
        self.moving = Moving(self.flows)
        self._refresh_at = 0.0

    @property
    def address(self) -> str:
        """Return the address of the server in use."""
        return self.flows.current

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return what every call carries, for those who lead calls to servers by a hash of it.

        All calls of a client have the same, so that they come to the same server.
        """
        name = self.flows.affinity
        return ((AFFINITY, quote(name, safe="")),) if name else ()

    def _should_refresh(self) -> bool:
        """Whether to ask now what the store covers, so that inputs can be forgotten."""
        if not self.exchange.ledger.crowded or time.monotonic() < self._refresh_at:
            return False
        self._refresh_at = time.monotonic() + _REFRESH_SECONDS
        return True

    def _tell(self) -> None:
        """Tell of failovers that are over. Not to be called with a lock held."""
        for event in self.exchange.events():
            log.warning("%s", event)
            if self.options.on_failover is not None:
                try:
                    self.options.on_failover(event)
                except Exception:
                    log.exception("on_failover failed")

    def _drained(self, host: Host, notice: pb.DrainNotice) -> None:
        """Tell that a server goes down. Not to be called with a lock held."""
        found = drain(notice)
        log.warning(
            "%s goes down in %.0f s at the latest; its sessions are %s",
            host.address,
            found.leaves_in,
            f"saved to {found.saved_to}" if found.saved_to else "lost then",
        )
        if self.options.on_drain is not None:
            try:
                self.options.on_drain(found)
            except Exception:
                log.exception("on_drain failed")

    def _broke(self, host: Host, error: CarouselError) -> None:
        """Note that a host's stream ended, and fail who waits if no other attempt is to be made."""
        self.exchange.disconnect(host)
        if self.options.reconnect and faults.passing(error):
            return
        for roster in list(self.exchange.active):
            rows = self.exchange.strays(roster)
            before = [roster.last.get(row, int(roster.at[row])) for row in rows.tolist()]
            mine = rows[np.array(before, np.int64) == host.number]
            if len(mine):
                self.exchange.quit(roster, mine, self._ended(host, error))

    def _ended(self, host: Host, error: CarouselError) -> Callable[[], CarouselError]:
        """Return what makes the error of those who waited when a stream ended for good."""
        if not faults.passing(error):
            return lambda: copy.copy(error)
        return lambda: ConnectionLost(
            f"the connection to {host.address} broke ({error}); the steps may have been run: "
            "`applied` tells, once the server answers again"
        )
