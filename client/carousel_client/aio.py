"""The client for asyncio; the same as `carousel_client`, with `await`.

```python
async with (
    carousel.aio.connect("localhost:8001") as client,
    client.open("co2") as session,
):
    async for y in session.stream(xs):
        ...
```
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from carousel import wire
from carousel_client import _aio_text as text
from carousel_client._addresses import DEFAULT_ADDRESS, addresses
from carousel_client._aio_link import Link
from carousel_client._aio_session import Opening, S, Session, SessionGroup
from carousel_client._block import Roster
from carousel_client._calls import Flow
from carousel_client._errors import ClientClosed
from carousel_client._failover import FailoverEvent
from carousel_client._flows import Flows
from carousel_client._models import Drain, ModelInfo, ServerInfo, SessionInfo
from carousel_client._options import Backoff, Options
from carousel_client._session import names, one_state_each, wanted, wanted_for
from carousel_client._tls import Tls

__all__ = ["Client", "Session", "SessionGroup", "connect", "text"]


def connect(
    address: str | Sequence[str] = DEFAULT_ADDRESS,
    *,
    timeout: float = 10.0,
    max_message_bytes: int = wire.DEFAULT_MAX_MESSAGE_BYTES,
    keepalive: float = 30.0,
    keepalive_timeout: float = 10.0,
    backoff: Backoff | None = None,
    reconnect: bool = True,
    credentials: grpc.ChannelCredentials | None = None,
    tls: Tls | None = None,
    on_drain: Callable[[Drain], None] | None = None,
    failover_timeout: float = 30.0,
    replay_bytes: int = 256 * 1024 * 1024,
    on_failover: Callable[[FailoverEvent], None] | None = None,
) -> Client:
    """Return a client that connects when it is awaited, or entered with `async with`.

    The options are those of `carousel_client.connect`; `on_drain` is called on the event loop.
    Raises InvalidInput, when entered or awaited if it is for what files of `tls` hold; then also
    Unavailable where no server answers in time.
    """
    options = Options(
        timeout=timeout,
        max_message_bytes=max_message_bytes,
        keepalive=keepalive,
        keepalive_timeout=keepalive_timeout,
        backoff=backoff or Backoff(),
        reconnect=reconnect,
        credentials=credentials,
        tls=tls,
        on_drain=on_drain,
        failover_timeout=failover_timeout,
        replay_bytes=replay_bytes,
        on_failover=on_failover,
    )
    return Client(addresses(address), options)


class Client:
    """A connection to a server, on one event loop; made by `connect`.

    As a context manager it closes the connection: sessions that are still open stay so at the
    server, and any client can attach to them.
    """

    def __init__(self, addresses: list[str], options: Options) -> None:
        self._addresses = addresses
        self._options = options
        self._connected: Link | None = None

    async def info(self) -> ServerInfo:
        """Return who the server is, and what it takes."""
        return await self._link.run(self._link.flows.info())

    async def models(self) -> list[ModelInfo]:
        """List every loaded version of every model, by name, newest version first."""
        return await self._link.run(self._link.flows.models())

    async def model(self, name: str, version: str = "") -> ModelInfo:
        """Describe one model; its default version where none is named. Raises ModelNotFound."""
        return await self._link.run(self._link.flows.model(name, version))

    async def sessions(self, model: str | None = None) -> list[SessionInfo]:
        """List the server's open sessions, all or those of one model, in the order of their ids."""
        return await self._link.run(self._link.flows.sessions(model or ""))

    def open(
        self,
        model: str,
        id: str | None = None,  # noqa: A002, the word that everybody knows it by
        *,
        version: str = "",
        initial_states: Mapping[str, Any] | None = None,
        resume: bool | None = None,
    ) -> Opening[Session]:
        """Open a session; with an id of the client's making where none is given.

        `initial_states` are the states to begin with, `[*state]` each, by name; those not named
        begin as the model says. `resume` is whether the session is to go on elsewhere when its
        server is lost; None: if servers share a store. Raises ModelNotFound, SessionExists,
        ResourceExhausted.
        """
        states = one_state_each(initial_states)
        return self._opening(
            Session, lambda flows: flows.open(model, [id], version, states, resume=resume)
        )

    def open_many(
        self,
        model: str,
        sessions: int | Sequence[str],
        *,
        version: str = "",
        initial_states: Mapping[str, Any] | None = None,
        resume: bool | None = None,
    ) -> Opening[SessionGroup]:
        """Open N sessions, by number or by ids: all of them, or none and an error.

        `initial_states` are `[N, *state]` each. Raises what `open` raises.
        """
        ids = wanted(sessions)
        return self._opening(
            SessionGroup,
            lambda flows: flows.open(model, ids, version, initial_states, resume=resume),
        )

    def attach(self, model: str, id: str, *, resume: bool | None = None) -> Opening[Session]:  # noqa: A002
        """Take up an open session where it is; whoever had it before gets StaleHandle.

        Raises SessionNotFound, SessionExpired.
        """
        return self._opening(Session, lambda flows: flows.attach(model, [id], resume=resume))

    def attach_many(
        self, model: str, ids: Sequence[str], *, resume: bool | None = None
    ) -> Opening[SessionGroup]:
        """Take up open sessions: all of them, or none and SessionNotFound."""
        chosen = names(ids)
        return self._opening(SessionGroup, lambda flows: flows.attach(model, chosen, resume=resume))

    def restore(
        self,
        model: str,
        saved: bytes,
        *,
        id: str | None = None,  # noqa: A002
        version: str = "",
        resume: bool | None = None,
    ) -> Opening[Session]:
        """Open a session that goes on where a snapshot was taken.

        The model may have another name or version than the snapshot's, with the same states. Raises
        SnapshotMismatch, and what `open` raises.
        """
        return self._opening(
            Session, lambda flows: flows.restore(model, [saved], [id], version, resume=resume)
        )

    def restore_many(
        self,
        model: str,
        saved: Sequence[bytes],
        *,
        ids: Sequence[str] | None = None,
        version: str = "",
        resume: bool | None = None,
    ) -> Opening[SessionGroup]:
        """Open a session for each snapshot: all of them, or none and what `restore` raises."""
        chosen = wanted_for(saved, ids)
        return self._opening(
            SessionGroup, lambda flows: flows.restore(model, saved, chosen, version, resume=resume)
        )

    async def close(self) -> None:
        """Close the connection. Sessions stay open at the server; calls in progress fail."""
        if self._connected is not None:
            await self._connected.close()

    async def __aenter__(self) -> Self:
        self._connected = Link(self._addresses, self._options)
        try:
            await self._connected.connect()
        except BaseException:
            await self._connected.close()
            raise
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self._addresses)}>"

    def _opening(
        self, make: Callable[[Link, Roster], S], flow: Callable[[Flows], Flow[Roster]]
    ) -> Opening[S]:
        link = self._link
        return Opening(link, lambda: link.run(flow(link.flows)), make)

    @property
    def _link(self) -> Link:
        if self._connected is None:
            raise ClientClosed("not connected: use `async with connect(...)` or await it")
        return self._connected
