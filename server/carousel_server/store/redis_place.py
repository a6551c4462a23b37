"""Where a Redis is, from its URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from carousel_server.errors import ConfigError, shown

_EXPECTED = (
    "redis://[USER:PASSWORD@]HOST:PORT/DB was expected, or rediss://… for TLS; "
    "in USER and PASSWORD / : @ # ? and % are written as %2F and so on"
)
#: What may stand behind the URL, named as redis-py names it, and the field it sets.
_FILES = {"ssl_ca_certs": "ca", "ssl_certfile": "certificate", "ssl_keyfile": "key"}


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """Where a Redis is, and how to get in; as text it has no secrets."""

    host: str
    port: int = 6379
    db: int = 0
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = None  # PEM file of the authority; None: the system's
    certificate: str | None = None  # PEM file, for a Redis that wants to know its clients
    key: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"


def redis_place(url: str) -> RedisPlace:
    """Return the place that `redis://…` or `rediss://…` names.

    Raises:
        ConfigError: it names none; the message shows nothing that may be a secret.

    """
    scheme = url.partition(":")[0]
    try:
        parts = urlsplit(url)
        port = parts.port
        database = parts.path.removeprefix("/") or "0"
        # What belongs to a password that was not written as it must be ends up anywhere.
        if not url.startswith(f"{scheme}://") or not parts.hostname or parts.fragment:
            raise ValueError
        if port == 0 or not (database.isascii() and database.isdecimal()):
            raise ValueError
    except ValueError:
        raise ConfigError(f"--store {scheme}: {_EXPECTED}") from None
    tls = scheme == "rediss"
    return RedisPlace(
        parts.hostname,
        6379 if port is None else port,
        int(database),
        user=_plain(parts.username),
        password=_plain(parts.password),
        tls=tls,
        **_tls_files(parts, tls=tls),
    )


def _plain(text: str | None) -> str | None:
    return unquote(text) if text else None


def _tls_files(parts: SplitResult, *, tls: bool) -> dict[str, str]:
    options = parse_qsl(parts.query, keep_blank_values=True)
    unknown = [name for name, _ in options if name not in _FILES]
    if unknown:
        raise ConfigError(
            f"--store {parts.scheme}: {', '.join(_FILES)} were expected behind the question mark, "
            f"not {', '.join(map(shown, unknown))}"
        )
    if options and not tls:
        raise ConfigError("--store redis: certificates are for TLS; rediss://… was expected")
    return {_FILES[name]: value for name, value in options}
