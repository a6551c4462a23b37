"""Records in Redis or Valkey, which servers on many machines share.

What is compared and written together is so in a Lua script (`lua/`), of which one call has many
sessions. They lie under any keys, so a Redis Cluster, which wants all keys of a script in one
place, can't be used; one with replicas can, and then keeps what it keeps: a take-over of a replica
may lose the last writes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1
from importlib.resources import files
from itertools import chain
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from carousel_server.store.interface import (
    NOT_COUNTED,
    Birth,
    Checkpoint,
    Held,
    Owner,
    Record,
    Saves,
    StoreUnavailable,
)
from carousel_server.store.records import REMEMBERED_SECONDS
from carousel_server.store.redis_fields import claimed, header_text, record
from carousel_server.store.redis_place import RedisPlace

SESSION = "carousel:session:"
SERVER = "carousel:server:"

_TIMEOUT_SECONDS = 1.0
# Redis does nothing else while a script runs: a call of so many sessions takes about 2 ms.
_KEYS_A_CALL = 256
_BYTES_A_CALL = 1 << 20
# How large records are shows only when they are read; this is a guess.
_BYTES_A_RECORD = 1 << 14

_T = TypeVar("_T")


class _Script:
    """A Lua script, known to Redis by its sum once it has run."""

    def __init__(self, name: str) -> None:
        folder = files("carousel_server.store") / "lua"
        parts = [(folder / f"{part}.lua").read_text("utf-8") for part in ("common", name)]
        self.text = "\n".join(parts)
        # Redis itself calls scripts by this sum; it guards nothing.
        self.sum = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class RedisStore:
    """A store in Redis; `ttl_seconds` is how long a record lives after its last write, 0 for ever.

    It connects at the first call, and again after a connection was lost.
    """

    shared = True

    def __init__(
        self, place: RedisPlace, *, ttl_seconds: float, timeout_seconds: float = _TIMEOUT_SECONDS
    ) -> None:
        self.place = str(place)
        self._ttl = _milliseconds(ttl_seconds)
        self._timeout = timeout_seconds
        self._redis = _client(place, timeout_seconds)
        self._create = _Script("create")
        self._save = _Script("save")
        self._load = _Script("load")
        self._claim = _Script("claim")
        self._release = _Script("release")
        self._delete = _Script("delete")

    def ping(self) -> None:
        """Return if Redis answers."""
        self._ask(self._redis.ping)

    def renew(self, owner: Owner, seconds: float) -> None:
        """Let a server live for so long from now."""
        key, lives = SERVER + owner.server, _milliseconds(seconds)
        self._ask(lambda: self._redis.set(key, owner.address, px=lives))

    def retire(self, owner: Owner) -> None:
        """End a server's lease."""
        self._ask(lambda: self._redis.delete(SERVER + owner.server))

    def create(self, births: Sequence[Birth], owner: Owner) -> list[int]:
        """Make records of new sessions, and return their tokens; 0 where the id is taken."""
        tokens: list[int] = []
        # Those of one call mostly have the same header.
        texts = {header: header_text(header) for header in {birth.header for birth in births}}
        for some in _parts([_size(birth.checkpoint) for birth in births]):
            part = births[some]
            steps = [-1 if b.checkpoint is None else b.checkpoint.step for b in part]
            data = [b"" if b.checkpoint is None else b.checkpoint.data for b in part]
            columns: list[list[str | bytes]] = [[texts[b.header] for b in part], [*data]]
            tokens += self._run(
                self._create,
                [birth.id for birth in part],
                *(owner.server, owner.address, self._ttl, _packed(steps)),
                *chain.from_iterable(zip(*columns, strict=True)),
            )
        return tokens

    def save(self, saves: Saves, owner: Owner) -> list[bool]:
        """Write checkpoints; False for each record that is not the owner's by now."""
        done: list[bool] = []
        for some in _parts([len(checkpoint.data) for checkpoint in saves.checkpoints]):
            done += self._save_part(_cut(saves, some), owner)
        return done

    def _save_part(self, part: Saves, owner: Owner) -> list[bool]:
        written = self._save_call(part, owner, headers="")
        lost = [row for row, code in enumerate(written) if code == 2]
        if lost:
            part = _pick(part, lost)
            headers = json.dumps([header_text(header) for header in part.headers])
            for row, code in zip(lost, self._save_call(part, owner, headers), strict=True):
                written[row] = code
        return [code == 1 for code in written]

    def _save_call(self, part: Saves, owner: Owner, headers: str) -> list[int]:
        steps = [checkpoint.step for checkpoint in part.checkpoints]
        numbers = _packed(
            list(chain.from_iterable(zip(part.tokens, part.delivered, steps, strict=True)))
        )
        marks = json.dumps(list(part.marks)) if any(part.marks) else ""
        found: list[int] = self._run(
            self._save,
            part.ids,
            *(owner.server, owner.address, self._ttl, numbers, marks, headers),
            *[checkpoint.data for checkpoint in part.checkpoints],
        )
        return found

    def load(self, ids: Sequence[str]) -> list[Record | None]:
        """Read records; None for each id that has none."""
        found: list[Record | None] = []
        for some in _parts([_BYTES_A_RECORD] * len(ids)):
            rows = self._run(self._load, ids[some])
            found += [record(name, row) for name, row in zip(ids[some], rows, strict=True)]
        return found

    def claim(
        self,
        ids: Sequence[str],
        owner: Owner,
        delivered: Sequence[int] | None = None,
        *,
        released_only: bool = False,
    ) -> list[Record | Held | None]:
        """Take sessions over, unless a living server has them."""
        counts = [NOT_COUNTED] * len(ids) if delivered is None else delivered
        found: list[Record | Held | None] = []
        for some in _parts([_BYTES_A_RECORD] * len(ids)):
            rows = self._run(
                self._claim,
                ids[some],
                *(owner.server, owner.address, self._ttl, SERVER, _packed(counts[some])),
                int(released_only),
            )
            found += [claimed(name, row) for name, row in zip(ids[some], rows, strict=True)]
        return found

    def release(self, ids: Sequence[str], tokens: Sequence[int]) -> list[bool]:
        """Give sessions up; False where the token is another."""
        return self._by_token(self._release, self._ttl, ids, tokens)

    def delete(self, ids: Sequence[str], tokens: Sequence[int]) -> list[bool]:
        """Remove records; False where the token is a higher one by now."""
        return self._by_token(self._delete, _milliseconds(REMEMBERED_SECONDS), ids, tokens)

    def _by_token(
        self, script: _Script, milliseconds: int, ids: Sequence[str], tokens: Sequence[int]
    ) -> list[bool]:
        done: list[bool] = []
        for some in _parts([0] * len(ids)):
            codes = self._run(script, ids[some], milliseconds, _packed(tokens[some]))
            done += [code == 1 for code in codes]
        return done

    def close(self) -> None:
        """Close connections."""
        self._redis.close()

    def _run(self, script: _Script, ids: Sequence[str], *arguments: str | bytes | int) -> list[Any]:
        keys = [SESSION + name for name in ids]

        def call() -> Any:
            try:
                return self._redis.evalsha(script.sum, len(keys), *keys, *arguments)
            except redis.exceptions.NoScriptError:  # Redis was started anew
                return self._redis.eval(script.text, len(keys), *keys, *arguments)

        return list(self._ask(call))

    def _ask(self, call: Callable[[], _T]) -> _T:
        """Ask Redis; once more where the connection was lost, as it is when Redis was restarted.

        Raises:
            StoreUnavailable: it can't be reached, does not answer, or refuses.

        """
        try:
            try:
                return call()
            except redis.exceptions.ConnectionError:
                return call()
        except redis.exceptions.TimeoutError as error:
            raise StoreUnavailable(
                f"{self.place} did not answer within {self._timeout:g} s"
            ) from error
        except redis.exceptions.ConnectionError as error:
            raise StoreUnavailable(f"{self.place} can't be reached: {error}") from error
        except redis.exceptions.RedisError as error:
            raise StoreUnavailable(f"{self.place} refused: {error}") from error


def _client(place: RedisPlace, timeout: float) -> redis.Redis:
    """Return a client that has not connected yet."""
    tls: dict[str, Any] = {}
    if place.tls:
        tls = {
            "ssl": True,
            "ssl_check_hostname": True,
            "ssl_ca_certs": place.ca,
            "ssl_certfile": place.certificate,
            "ssl_keyfile": place.key,
        }
    return redis.Redis(
        host=place.host,
        port=place.port,
        db=place.db,
        username=place.user,
        password=place.password,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        socket_keepalive=True,
        protocol=2,
        # Its own repetitions would make a call take a multiple of the timeout.
        retry=Retry(NoBackoff(), 0),
        **tls,
    )


def _milliseconds(seconds: float) -> int:
    """Return whole milliseconds, at least 1 unless it is 0."""
    return max(round(seconds * 1000), 1) if seconds else 0


def _size(checkpoint: Checkpoint | None) -> int:
    return 0 if checkpoint is None else len(checkpoint.data)


def _parts(sizes: Sequence[int]) -> Iterator[slice]:
    """Cut N rows of so many bytes into parts that are small enough for one call."""
    begin = total = 0
    for row, size in enumerate(sizes):
        if row > begin and (row - begin == _KEYS_A_CALL or total + size > _BYTES_A_CALL):
            yield slice(begin, row)
            begin, total = row, 0
        total += size
    if begin < len(sizes):
        yield slice(begin, len(sizes))


def _cut(saves: Saves, some: slice) -> Saves:
    return Saves(
        saves.ids[some],
        saves.headers[some],
        saves.tokens[some],
        saves.delivered[some],
        saves.checkpoints[some],
        saves.marks[some],
    )


def _pick(saves: Saves, rows: Sequence[int]) -> Saves:
    return Saves(
        [saves.ids[row] for row in rows],
        [saves.headers[row] for row in rows],
        [saves.tokens[row] for row in rows],
        [saves.delivered[row] for row in rows],
        [saves.checkpoints[row] for row in rows],
        [saves.marks[row] for row in rows],
    )


def _packed(numbers: Sequence[int]) -> bytes:
    """Return int64, little-endian, as the scripts read them."""
    return struct.pack(f"<{len(numbers)}q", *numbers)
