"""Which sessions the server has, over all of its models, by id."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from heapq import nsmallest

from carousel_server.errors import NoRoom, SessionExists, SessionExpired, SessionNotFound

_REMEMBERED = 100_000
_REMEMBERED_SECONDS = 24 * 3600.0
_RETRY_AFTER_MS = 1000
_ENTRY_BITS = 32
_ENTRY_MASK = (1 << _ENTRY_BITS) - 1


class Directory:
    """Maps ids to `(engine number, entry)`, and remembers expired ids for a day.

    Ids are unique at the server, so one directory serves the engines of all models. Any thread may
    call it.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        # One int an id, not a tuple: a hundred thousand sessions are a normal day.
        self._places: dict[str, int] = {}
        self._expired: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def claim(self, ids: Iterable[str], engine: int, entries: Iterable[int]) -> None:
        """Enter new sessions: all of them, or none.

        Raises:
            SessionExists: an id is taken, or stands there twice.
            NoRoom: the server has as many sessions as it may.

        """
        places = [(engine << _ENTRY_BITS) | entry for entry in entries]
        fresh: dict[str, int] = {}
        with self._lock:
            for name, place in zip(ids, places, strict=True):
                if name in self._places or name in fresh:
                    raise SessionExists(name)
                fresh[name] = place
            self._check_room(len(fresh))
            self._places.update(fresh)
            for name in fresh:
                self._expired.pop(name, None)

    def check_room(self, count: int) -> None:
        """Refuse more sessions than there may be.

        Raises:
            NoRoom: the server has not room for so many more.

        """
        with self._lock:
            self._check_room(count)

    def _check_room(self, count: int) -> None:
        if len(self._places) + count > self.capacity:
            raise NoRoom(
                f"the server has {len(self._places)} of at most {self.capacity} sessions; "
                f"{count} more were asked for",
                retry_after_ms=_RETRY_AFTER_MS,
            )

    def release(self, ids: Iterable[str]) -> None:
        """Forget sessions that ended."""
        with self._lock:
            for name in ids:
                self._places.pop(name, None)

    def expire(self, ids: Iterable[str], rule: str) -> None:
        """Forget sessions that were idle too long, but remember that they were."""
        now = time.time()
        with self._lock:
            for name in ids:
                self._places.pop(name, None)
                self._expired[name] = (now, rule)
            while self._expired and (
                len(self._expired) > _REMEMBERED
                or next(iter(self._expired.values()))[0] < now - _REMEMBERED_SECONDS
            ):
                self._expired.popitem(last=False)

    def knows(self, name: str) -> bool:
        """Return whether a session of that id is open."""
        return name in self._places

    def has(self, name: str, engine: int) -> bool:
        """Return whether a session of that id is open at one engine."""
        place = self._places.get(name)
        return place is not None and place >> _ENTRY_BITS == engine

    def find(self, name: str) -> tuple[int, int]:
        """Return the engine's number and the entry of a session.

        Raises:
            SessionExpired: it was idle for too long.
            SessionNotFound: no session has that id.

        """
        with self._lock:
            place = self._places.get(name)
            expired = self._expired.get(name)
        if place is not None:
            return place >> _ENTRY_BITS, place & _ENTRY_MASK
        if expired is not None and time.time() - expired[0] < _REMEMBERED_SECONDS:
            raise SessionExpired(name, at=expired[0], rule=expired[1])
        raise SessionNotFound([name])

    def entries(self, ids: Iterable[str], engine: int) -> list[int]:
        """Return the entries of those of `ids` that are sessions of that engine."""
        with self._lock:
            return [
                place & _ENTRY_MASK
                for name in ids
                if (place := self._places.get(name)) is not None and place >> _ENTRY_BITS == engine
            ]

    def missing(self, ids: Iterable[str], engine: int) -> list[str]:
        """Return the ids that are no sessions of that engine."""
        with self._lock:
            return [
                name
                for name in ids
                if (place := self._places.get(name)) is None or place >> _ENTRY_BITS != engine
            ]

    def page(self, engines: frozenset[int], after: str, count: int) -> tuple[list[str], int]:
        """Return up to `count` ids behind `after`, in order, and how many there are in all."""
        with self._lock:
            ids = [name for name, place in self._places.items() if place >> _ENTRY_BITS in engines]
        return nsmallest(count, (name for name in ids if name > after)), len(ids)
