"""The client for programs with threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from carousel import wire
from carousel_client._addresses import DEFAULT_ADDRESS, addresses
from carousel_client._failover import FailoverEvent
from carousel_client._models import Drain, ModelInfo, ServerInfo, SessionInfo
from carousel_client._options import Backoff, Options
from carousel_client._session import names, one_state_each, wanted, wanted_for
from carousel_client._sync_link import Link
from carousel_client._sync_session import Session, SessionGroup
from carousel_client._tls import Tls


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
    """Connect to the first server that answers at `address`, HOST:PORT or a list of them.

    A name, plain or as dns:///NAME:PORT, stands for all the addresses that it has.

    `timeout`, in seconds, is how long the client goes on trying: to connect, to make a call, to
    reconnect after the connection broke (unless `reconnect` is False), and to find room in a full
    server's queue. It doesn't bound how long a step may run: see `Session.step`. `backoff` says how
    long to wait between attempts. `max_message_bytes` bounds messages either way. An idle
    connection is probed every `keepalive` seconds, and given up when nothing comes back for
    `keepalive_timeout` seconds. `tls` says whom to trust and what to show, for a connection with
    TLS; `credentials`, gRPC's own, say it instead; without either the connection is plain.
    `on_drain` is called, in a thread of the client's, when a server says that it is going down.

    Sessions that outlive their server may be without one for `failover_timeout` seconds before
    their steps fail. For them the client holds inputs of up to `replay_bytes` bytes, to be sent
    again. `on_failover` is called, in a thread of the client's, when sessions went on at a server
    after they had lost theirs.

    Raises Unavailable where no server answers in time, and InvalidInput.
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
    return Client(Link(addresses(address), options))


class Client:
    """A connection to a server. Thread-safe; made by `connect`.

    As a context manager it closes the connection: sessions that are still open stay so at the
    server, and any client can attach to them.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    def info(self) -> ServerInfo:
        """Return who the server is, and what it takes."""
        return self._link.run(self._link.flows.info())

    def models(self) -> list[ModelInfo]:
        """List every loaded version of every model, by name, newest version first."""
        return self._link.run(self._link.flows.models())

    def model(self, name: str, version: str = "") -> ModelInfo:
        """Describe one model; its default version where none is named. Raises ModelNotFound."""
        return self._link.run(self._link.flows.model(name, version))

    def sessions(self, model: str | None = None) -> list[SessionInfo]:
        """List the server's open sessions, all or those of one model, in the order of their ids."""
        return self._link.run(self._link.flows.sessions(model or ""))

    def open(
        self,
        model: str,
        id: str | None = None,  # noqa: A002, the word that everybody knows it by
        *,
        version: str = "",
        initial_states: Mapping[str, Any] | None = None,
        resume: bool | None = None,
    ) -> Session:
        """Open a session; with an id of the client's making where none is given.

        `initial_states` are the states to begin with, `[*state]` each, by name; those not named
        begin as the model says. `resume` is whether the session is to go on elsewhere when its
        server is lost; None: if servers share a store. Raises ModelNotFound, SessionExists,
        ResourceExhausted.
        """
        states = one_state_each(initial_states)
        flow = self._link.flows.open(model, [id], version, states, resume=resume)
        return Session(self._link, self._link.run(flow))

    def open_many(
        self,
        model: str,
        sessions: int | Sequence[str],
        *,
        version: str = "",
        initial_states: Mapping[str, Any] | None = None,
        resume: bool | None = None,
    ) -> SessionGroup:
        """Open N sessions, by number or by ids: all of them, or none and an error.

        `initial_states` are `[N, *state]` each. Raises what `open` raises.
        """
        flow = self._link.flows.open(
            model, wanted(sessions), version, initial_states, resume=resume
        )
        return SessionGroup(self._link, self._link.run(flow))

    def attach(self, model: str, id: str, *, resume: bool | None = None) -> Session:  # noqa: A002
        """Take up an open session where it is; whoever had it before gets StaleHandle.

        Raises SessionNotFound, SessionExpired.
        """
        return Session(
            self._link, self._link.run(self._link.flows.attach(model, [id], resume=resume))
        )

    def attach_many(
        self, model: str, ids: Sequence[str], *, resume: bool | None = None
    ) -> SessionGroup:
        """Take up open sessions: all of them, or none and SessionNotFound."""
        return SessionGroup(
            self._link, self._link.run(self._link.flows.attach(model, names(ids), resume=resume))
        )

    def restore(
        self,
        model: str,
        saved: bytes,
        *,
        id: str | None = None,  # noqa: A002
        version: str = "",
        resume: bool | None = None,
    ) -> Session:
        """Open a session that goes on where a snapshot was taken.

        The model may have another name or version than the snapshot's, with the same states. Raises
        SnapshotMismatch, and what `open` raises.
        """
        flow = self._link.flows.restore(model, [saved], [id], version, resume=resume)
        return Session(self._link, self._link.run(flow))

    def restore_many(
        self,
        model: str,
        saved: Sequence[bytes],
        *,
        ids: Sequence[str] | None = None,
        version: str = "",
        resume: bool | None = None,
    ) -> SessionGroup:
        """Open a session for each snapshot: all of them, or none and what `restore` raises."""
        chosen = wanted_for(saved, ids)
        flow = self._link.flows.restore(model, saved, chosen, version, resume=resume)
        return SessionGroup(self._link, self._link.run(flow))

    def close(self) -> None:
        """Close the connection. Sessions stay open at the server; calls in progress fail."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._link.address}>"
