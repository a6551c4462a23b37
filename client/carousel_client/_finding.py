"""Finding servers, and calls that any of them can answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from carousel.v1 import server_pb2
from carousel_client import _faults as faults
from carousel_client._addresses import host_name, numbered
from carousel_client._calls import INFO, Call, Flow, Method, Resolve, Sleep
from carousel_client._errors import CarouselError, Unavailable
from carousel_client._exchange import Exchange
from carousel_client._hosts import Host
from carousel_client._models import server_info
from carousel_client._options import Options

#: How long one attempt to reach one of several servers may take, in seconds.
ATTEMPT_SECONDS = 2.0


@dataclass
class Finding:
    """The servers of one client: what addresses it was given, and which one it uses."""

    given: Sequence[str]
    options: Options
    exchange: Exchange
    clock: Callable[[], float] = time.monotonic
    #: The server that calls go to which are not about open sessions.
    current: str = ""
    #: What `given` stands for, as far as it was looked up.
    addresses: list[str] = field(default_factory=list)

    #: The id of the first session that was opened or attached to.
    affinity: str = ""

    _names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.current = self.given[0]
        self.addresses = list(self.given)

    def find_server(self, limit: float = 0.0) -> Flow[Host]:
        """Find a server that answers, beginning with the current one, and make it that.

        One that is going down is taken only if there is no other. Raises Unavailable.
        """
        limit = limit or self.options.timeout
        end = self.clock() + limit
        reason = ""
        for delay in self.options.backoff.delays():
            yield from self.resolve()
            draining = None
            for address in dict.fromkeys([self.current, *self.addresses]):
                try:
                    host = yield from self.reach(address, end - self.clock())
                except CarouselError as error:
                    raise_unless_away(error)
                    reason = str(error)
                    continue
                if not host.draining:
                    self.current = address
                    return host
                draining = draining or host
            if draining:
                self.current = draining.address
                return draining
            if self.clock() + delay >= end:
                break
            yield Sleep(delay)
        raise Unavailable(
            f"no server at {', '.join(self.given)} answered within {limit:g} s: {reason}"
        )

    def reach(self, address: str, limit: float) -> Flow[Host]:
        """Ask who is at an address, within `limit` seconds. Raises what the call raises."""
        limit = min(max(limit, 0.001), ATTEMPT_SECONDS)
        info = server_info((yield Call(INFO, server_pb2.InfoRequest(), limit, address)))
        return self.exchange.meet(address, info)

    def resolve(self) -> Flow[None]:
        """Look up the names given that may stand for several servers."""
        found: list[str] = []
        for address in self.given:
            name = host_name(address)
            places = numbered(address, (yield Resolve(name))) if name else [address]
            if places != [address]:
                self._names.update(dict.fromkeys(places, name))
            found += places
        self.addresses = found
        if self.current not in found and self.current in self.given:
            self.current = found[0]

    def name_of(self, address: str) -> str:
        """Return the name that an IP address was looked up by, for checking certificates."""
        return self._names.get(address, "")

    def safe(self, call: Callable[[], Call]) -> Flow[Any]:
        """Make a call that may be made twice; again and again while no server answers it."""
        end = self.clock() + self.options.timeout
        for delay in self.options.backoff.delays():
            try:
                return (yield call())
            except Unavailable:
                if not self.options.reconnect or self.clock() + delay >= end:
                    raise
            yield Sleep(delay)
            yield from self._look_elsewhere(end)
        return None

    def _look_elsewhere(self, end: float) -> Flow[None]:
        """Go on to another of several servers, if the current one is away or going down."""
        if len(self.addresses) < 2:
            return
        try:
            yield from self.find_server(max(end - self.clock(), 0.001))
        except Unavailable:
            return

    def _call(
        self,
        method: Method,
        request: Any,
        subject: faults.Subject = "session",
        address: str = "",
    ) -> Call:
        return Call(method, request, self.options.timeout, address or self.current, subject)


def raise_unless_away(error: CarouselError) -> None:
    """Let an error pass that says no more than that the server doesn't answer (yet)."""
    if not isinstance(error, Unavailable | TimeoutError):
        raise error
