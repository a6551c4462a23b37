"""Records in a folder, which servers on one machine share.

`sessions/XX/` has a file a session and a lock for writers, `servers/` a file a lease. Names are
hashes, since ids may hold anything.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from math import inf
from pathlib import Path

from carousel_server.store import records
from carousel_server.store.encoding import Written
from carousel_server.store.interface import (
    NOT_COUNTED,
    Birth,
    Held,
    Owner,
    Record,
    Saves,
    StoreUnavailable,
)
from carousel_server.store.records import Gone, Kept, State
from carousel_server.store.shard import Shard

_FORMAT = "carousel store 1\n"
_SHARDS = 256
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_WAIT_SECONDS = 1.0
# Leases are seconds long; whose is so old is not coming back.
_OLD_LEASE_SECONDS = 86_400.0

#: What is to be there, from a row's place and what is there; None: nothing is changed.
_Rule = Callable[[int, State], Kept | Gone | None]


def boot_seconds() -> float:
    """Return seconds since the machine was started, those it slept among them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def boot_id() -> str:
    """Return what differs from one start of the machine to the next, "" where it is not told."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


class FileStore:
    """A store in a folder of a local disk; `ttl_seconds`: a record's life, 0 for ever.

    `clock` is for leases: all processes on the machine must read the same, and it must go on while
    they are stopped. `boot` ends leases with the machine that they were granted on. `today` is for
    records: seconds since the epoch. A call waits for `wait_seconds` where another process has the
    lock that it needs.

    Raises:
        OSError: the folder can't be made or written.
        ValueError: it belongs to something else.

    """

    shared = True

    def __init__(
        self,
        folder: Path,
        *,
        ttl_seconds: float,
        clock: Callable[[], float] = boot_seconds,
        boot: str | None = None,
        today: Callable[[], float] = time.time,
        wait_seconds: float = _WAIT_SECONDS,
    ) -> None:
        self._folder = folder.absolute()
        self.place = f"file:{self._folder}"
        self._ttl = ttl_seconds
        self._clock = clock
        self._boot = boot_id() if boot is None else boot
        self._today = today
        self._wait = wait_seconds
        self._servers = self._folder / "servers"
        self._prepare()
        self._shards = [Shard(folder) for folder in self._shard_folders()]
        self._to_sweep = 0
        self._clean()

    def _shard_folders(self) -> list[Path]:
        return [self._folder / "sessions" / f"{number:02x}" for number in range(_SHARDS)]

    def _prepare(self) -> None:
        """Make the folders, where they are not there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        about = self._folder / "format"
        if not about.exists():
            # Another process may be doing the same just now.
            if any(not path.name.startswith("format") for path in self._folder.iterdir()):
                raise ValueError("it has other files; a folder of its own was expected")
            _replace(about, _FORMAT)
        if about.read_text("utf-8", "replace") != _FORMAT:
            raise ValueError(f"its file 'format' does not say {_FORMAT.strip()!r}")
        for folder in (self._servers, *self._shard_folders()):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        Shard(self._folder / "sessions").settle()
        Shard(self._folder).settle()

    def _clean(self) -> None:
        """Remove what crashes left, but where another process is writing just now."""
        for shard in self._shards:
            with suppress(StoreUnavailable), shard.locked(wait_seconds=0):
                shard.clean()
        before = self._today() - _OLD_LEASE_SECONDS
        for path in self._servers.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()

    def ping(self) -> None:
        """Return if the folder is there."""
        with self._unavailable():
            self._servers.stat()

    def renew(self, owner: Owner, seconds: float) -> None:
        """Let a server live for so long from now, and look after a part of the records."""
        now = self._clock()
        lease = {"server": owner.server, "boot": self._boot, "from": now, "until": now + seconds}
        with self._unavailable():
            _replace(self._lease(owner.server), json.dumps(lease))
            self._sweep_some()

    def _sweep_some(self) -> None:
        """Sweep one shard, the next time the next one."""
        shard = self._shards[self._to_sweep]
        self._to_sweep = (self._to_sweep + 1) % _SHARDS
        now = self._today()
        least = min(self._ttl or inf, records.REMEMBERED_SECONDS)
        with suppress(StoreUnavailable), shard.locked(wait_seconds=0):
            shard.sweep(now=now, younger=now - least)

    def retire(self, owner: Owner) -> None:
        """End a server's lease."""
        with self._unavailable():
            self._lease(owner.server).unlink(missing_ok=True)

    def _lease(self, server: str) -> Path:
        return self._servers / _hash(server)

    def _alive(self, server: str) -> bool:
        try:
            lease = json.loads(self._lease(server).read_bytes())
            granted, until = float(lease["from"]), float(lease["until"])
            return bool(lease["boot"] == self._boot and granted <= self._clock() < until)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False  # leases are not brought to the disk: a crash of the machine ends them

    def create(self, births: Sequence[Birth], owner: Owner) -> list[int]:
        """Make records of new sessions, and return their tokens; 0 where the id is taken."""
        made = self._change(
            [birth.id for birth in births],
            lambda row, state: records.created(state, births[row], owner),
        )
        return [state.token if state else 0 for state in made]

    def save(self, saves: Saves, owner: Owner) -> list[bool]:
        """Write checkpoints; False for each record that is not the owner's by now."""
        rows = records.rows(saves)
        made = self._change(saves.ids, lambda row, state: records.saved(state, rows[row], owner))
        return [state is not None for state in made]

    def load(self, ids: Sequence[str]) -> list[Record | None]:
        """Read records; None for each id that has none."""
        found: list[Record | None] = []
        with self._unavailable():
            for name in ids:
                shard, file = self._place_of(name)
                state = self._state(shard, file, name)
                found.append(state.record(name) if isinstance(state, Kept) else None)
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
        found: list[Record | Held | None] = [None] * len(ids)

        def take(row: int, state: State) -> Kept | None:
            if not isinstance(state, Kept):
                return None
            if not records.claimable(
                state, owner, lambda server: released_only or self._alive(server)
            ):
                found[row] = Held(ids[row], state.owner)
                return None
            taken = records.claimed(state, owner, counts[row])
            found[row] = taken.record(ids[row])
            return taken

        self._change(ids, take)
        return found

    def release(self, ids: Sequence[str], tokens: Sequence[int]) -> list[bool]:
        """Give sessions up; False where the token is another."""
        made = self._change(ids, lambda row, state: records.released(state, tokens[row]))
        return [state is not None for state in made]

    def delete(self, ids: Sequence[str], tokens: Sequence[int]) -> list[bool]:
        """Remove records; False where the token is a higher one by now."""
        made = self._change(ids, lambda row, state: records.removed(state, tokens[row]))
        return [state is not None for state in made]

    def close(self) -> None:
        """Do nothing: no file is open between calls."""

    def _change(self, ids: Sequence[str], rule: _Rule) -> list[Kept | Gone | None]:
        """Decide on each row, and write what was decided, a shard at a time under its lock.

        Raises:
            StoreUnavailable: the disk fails, or a lock can't be had.

        """
        rows: dict[Shard, list[tuple[int, str]]] = defaultdict(list)
        for row, name in enumerate(ids):
            shard, file = self._place_of(name)
            rows[shard].append((row, file))
        made: list[Kept | Gone | None] = [None] * len(ids)
        with self._unavailable():
            for shard, some in rows.items():
                with shard.locked(wait_seconds=self._wait):
                    self._change_shard(shard, some, ids, rule, made)
        return made

    def _change_shard(
        self,
        shard: Shard,
        rows: Sequence[tuple[int, str]],
        ids: Sequence[str],
        rule: _Rule,
        made: list[Kept | Gone | None],
    ) -> None:
        changed: dict[str, Written] = {}
        for row, file in rows:
            name = ids[row]
            there = changed.get(file)
            state = made[row] = rule(row, there.state if there else self._state(shard, file, name))
            if state is not None:
                changed[file] = Written(name, self._until(state), state)
        for file, written in changed.items():
            shard.write(file, written)
        if changed:
            shard.settle()

    def _place_of(self, name: str) -> tuple[Shard, str]:
        file = _hash(name)
        return self._shards[int(file[:2], 16)], file

    def _state(self, shard: Shard, file: str, name: str) -> State:
        written = shard.read(file)
        if written is None or written.id != name or written.until <= self._today():
            return None
        return written.state

    def _until(self, state: Kept | Gone) -> float:
        """Return when the record's time is over, in seconds since the epoch."""
        seconds = self._ttl if isinstance(state, Kept) else records.REMEMBERED_SECONDS
        # JSON has no infinity; this is later than any clock shows.
        return self._today() + (seconds or 1e12)

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(f"{self.place}: {error.strerror or error}") from error


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=20).hexdigest()


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, as far as processes see; not yet to the disk."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, "utf-8")
    partial.replace(path)
