"""From `--store` to a store."""

from __future__ import annotations

from pathlib import Path

from carousel_server.errors import ConfigError, shown
from carousel_server.store.interface import Store
from carousel_server.store.memory import MemoryStore
from carousel_server.store.redis_place import redis_place

_EXPECTED = "memory, file:FOLDER, redis://[USER:PASSWORD@]HOST:PORT/DB or rediss://… was expected"


def open_store(url: str, *, ttl_seconds: float) -> Store:
    """Return the store that `url` names; `ttl_seconds`: a record's life after its last write.

    0 is for ever. Redis is not asked for yet: whether it answers shows at the first call.

    Raises:
        ConfigError: it names none, or a folder that can't be used; no secret is in the message.

    """
    scheme, _, rest = url.partition(":")
    if url == "memory":
        return MemoryStore(ttl_seconds=ttl_seconds)
    if scheme == "file":
        return _open_folder(rest, ttl_seconds)
    if scheme in ("redis", "rediss"):
        return _open_redis(url, ttl_seconds)
    # A URL may have a password in it, so only what stands before it is shown.
    raise ConfigError(f"--store {shown(scheme)}: {_EXPECTED}")


def _open_folder(path: str, ttl_seconds: float) -> Store:
    # Files are locked as Unix locks them; the other stores need no Unix.
    from carousel_server.store.files import FileStore  # noqa: PLC0415

    if path.startswith("//") and not path.startswith("///"):
        raise ConfigError(f"--store file:{path}: a folder of this machine was expected, file:/…")
    folder = path.removeprefix("//")
    if not folder:
        raise ConfigError("--store file: a folder was expected, such as file:/var/lib/carousel")
    try:
        return FileStore(Path(folder), ttl_seconds=ttl_seconds)
    except OSError as error:
        raise ConfigError(f"--store file:{folder}: it can't be used: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--store file:{folder}: {error}") from error


def _open_redis(url: str, ttl_seconds: float) -> Store:
    # Importing a client for Redis takes as long as importing all else here.
    from carousel_server.store.redis import RedisStore  # noqa: PLC0415

    return RedisStore(redis_place(url), ttl_seconds=ttl_seconds)
