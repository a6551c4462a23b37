"""How a client behaves, and what that means for its channel."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from carousel import wire
from carousel_client._errors import InvalidInput
from carousel_client._failover import FailoverEvent
from carousel_client._kinds import came, check_number, check_whole
from carousel_client._models import Drain
from carousel_client._tls import Tls


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long to wait between attempts, in seconds: growing, and jittered by up to a half.

    The jitter keeps many clients of one server from coming back all at the same moment.
    """

    initial: float = 0.05
    maximum: float = 2.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        for name in ("initial", "maximum", "multiplier"):
            check_number(getattr(self, name), name)
        if not (0 < self.initial <= self.maximum and self.multiplier >= 1):
            raise InvalidInput(
                "a Backoff needs 0 < initial <= maximum and multiplier >= 1, but has initial "
                f"{self.initial}, maximum {self.maximum}, multiplier {self.multiplier}"
            )

    def delays(self) -> Iterator[float]:
        """Yield the waits, without end."""
        delay = self.initial
        while True:
            yield delay * random.uniform(0.5, 1.0)  # noqa: S311, nobody gains by guessing it
            delay = min(delay * self.multiplier, self.maximum)


#: How long a connection may take to come up, in milliseconds: several round trips, with TLS.
CONNECT_MS = 1000

#: Times that gRPC counts, in 32 bits of milliseconds, and the most of them.
_SHORT = ("timeout", "keepalive", "keepalive_timeout")
_MOST_SECONDS = 1_000_000

_POSITIVE = (
    "timeout",
    "max_message_bytes",
    "keepalive",
    "keepalive_timeout",
    "failover_timeout",
    "replay_bytes",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `connect` was asked for; see there."""

    timeout: float = 10.0
    max_message_bytes: int = wire.DEFAULT_MAX_MESSAGE_BYTES
    keepalive: float = 30.0
    keepalive_timeout: float = 10.0
    backoff: Backoff = Backoff()
    reconnect: bool = True
    credentials: grpc.ChannelCredentials | None = None
    tls: Tls | None = None
    on_drain: Callable[[Drain], None] | None = None
    failover_timeout: float = 30.0
    replay_bytes: int = 256 * 1024 * 1024
    on_failover: Callable[[FailoverEvent], None] | None = None

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            _check_positive(name, getattr(self, name))
        for name in ("max_message_bytes", "replay_bytes"):
            check_whole(getattr(self, name), name)
        if self.max_message_bytes < wire.LEAST_MAX_MESSAGE_BYTES:
            raise InvalidInput(
                f"max_message_bytes must be at least {wire.LEAST_MAX_MESSAGE_BYTES:,}, but is "
                f"{self.max_message_bytes:,}"
            )
        if not isinstance(self.tls, Tls | None):
            raise InvalidInput(f"tls: expected a carousel.Tls, but got {came(self.tls)}")
        for name in ("on_drain", "on_failover"):
            if not (getattr(self, name) is None or callable(getattr(self, name))):
                raise InvalidInput(
                    f"{name}: expected a function, but got {came(getattr(self, name))}"
                )
        if self.credentials is not None and self.tls is not None:
            raise InvalidInput("expected `tls` or `credentials`, but got both")

    def patience(self, resumes: bool) -> float:  # noqa: FBT001
        """Return for how many seconds sessions wait for a server: those that outlive one or not."""
        return self.failover_timeout if resumes else self.timeout

    def channel(self, name: str = "") -> list[tuple[str, Any]]:
        """Return the gRPC channel arguments; `name` is the server's where an address is its IP."""
        name = (self.tls.server_name if self.tls else "") or name
        secure = self.tls is not None or self.credentials is not None
        named = [("grpc.ssl_target_name_override", name)] if name and secure else []
        return [
            *named,
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.keepalive_time_ms", int(self.keepalive * 1000)),
            ("grpc.keepalive_timeout_ms", int(self.keepalive_timeout * 1000)),
            # Where a ping is on its way already, to measure the line, keepalive waits for that one,
            # by default for a minute.
            ("grpc.http2.ping_timeout_ms", int(self.keepalive_timeout * 1000)),
            ("grpc.http2.max_pings_without_data", 0),
            # The client's own back-off decides when to try; the channel must not lag behind it.
            ("grpc.initial_reconnect_backoff_ms", max(1, int(self.backoff.initial * 1000))),
            # In spite of its name this bounds how long one attempt to connect may take.
            ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", max(1, int(self.backoff.initial * 1000))),
            # Two clients of one process must not share a connection: one stream's flow control,
            # or its end, would be the other's too.
            ("grpc.use_local_subchannel_pool", 1),
        ]


def _check_positive(name: str, value: float) -> None:
    check_number(value, name)
    if value <= 0:
        raise InvalidInput(f"{name} must be positive, but is {value}")
    if name in _SHORT and value > _MOST_SECONDS:
        raise InvalidInput(f"{name} must be at most {_MOST_SECONDS:,} seconds, but is {value}")
