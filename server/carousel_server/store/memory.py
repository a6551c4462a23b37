"""Records in the server's own memory: they are gone when it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

from carousel_server.store import records
from carousel_server.store.interface import (
    NOT_COUNTED,
    Birth,
    Held,
    Owner,
    Record,
    Saves,
)
from carousel_server.store.records import Gone, Kept, State

# Removing what has expired looks at every record, so it is done once in so many seconds.
_SWEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Timed:
    state: Kept | Gone
    until: float  # on the store's clock


class MemoryStore:
    """A store that nobody else has; several threads may call it.

    `ttl_seconds` is how long a record lives after its last write, 0 for ever; `clock` gives seconds
    and never goes back.
    """

    shared = False
    place = "memory"

    def __init__(self, *, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl = ttl_seconds or inf
        self._clock = clock
        self._lock = threading.Lock()
        self._states: dict[str, _Timed] = {}
        self._leases: dict[str, float] = {}
        self._swept = clock()

    def ping(self) -> None:
        """Return: memory always answers."""

    def renew(self, owner: Owner, seconds: float) -> None:
        """Let a server live for so long from now."""
        with self._locked() as now:
            self._leases[owner.server] = now + seconds

    def retire(self, owner: Owner) -> None:
        """End a server's lease."""
        with self._lock:
            self._leases.pop(owner.server, None)

    def create(self, births: Sequence[Birth], owner: Owner) -> list[int]:
        """Make records of new sessions, and return their tokens; 0 where the id is taken."""
        with self._locked() as now:
            return [self._create(birth, owner, now) for birth in births]

    def _create(self, birth: Birth, owner: Owner, now: float) -> int:
        kept = records.created(self._state(birth.id, now), birth, owner)
        if kept is None:
            return 0
        self._keep(birth.id, kept, now)
        return kept.token

    def save(self, saves: Saves, owner: Owner) -> list[bool]:
        """Write checkpoints; False for each record that is not the owner's by now."""
        with self._locked() as now:
            return [
                self._keep(name, records.saved(self._state(name, now), save, owner), now)
                for name, save in zip(saves.ids, records.rows(saves), strict=True)
            ]

    def load(self, ids: Sequence[str]) -> list[Record | None]:
        """Read records; None for each id that has none."""
        with self._locked() as now:
            states = [(name, self._state(name, now)) for name in ids]
            return [s.record(name) if isinstance(s, Kept) else None for name, s in states]

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
        with self._locked() as now:
            return [
                self._claim(name, owner, count, now, released_only=released_only)
                for name, count in zip(ids, counts, strict=True)
            ]

    def _claim(
        self, name: str, owner: Owner, count: int, now: float, *, released_only: bool
    ) -> Record | Held | None:
        kept = self._state(name, now)
        if not isinstance(kept, Kept):
            return None
        if not records.claimable(
            kept, owner, lambda server: released_only or self._alive(server, now)
        ):
            return Held(name, kept.owner)
        kept = records.claimed(kept, owner, count)
        self._keep(name, kept, now)
        return kept.record(name)

    def release(self, ids: Sequence[str], tokens: Sequence[int]) -> list[bool]:
        """Give sessions up; False where the token is another."""
        with self._locked() as now:
            return [
                self._keep(name, records.released(self._state(name, now), token), now)
                for name, token in zip(ids, tokens, strict=True)
            ]

    def delete(self, ids: Sequence[str], tokens: Sequence[int]) -> list[bool]:
        """Remove records; False where the token is another."""
        with self._locked() as now:
            return [
                self._keep(name, records.removed(self._state(name, now), token), now)
                for name, token in zip(ids, tokens, strict=True)
            ]

    def close(self) -> None:
        """Do nothing: there is nothing to give up."""

    @contextmanager
    def _locked(self) -> Iterator[float]:
        """Keep others out, and give the time, which stands still inside."""
        with self._lock:
            now = self._clock()
            if now - self._swept >= _SWEEP_SECONDS:
                self._sweep(now)
            yield now

    def _state(self, name: str, now: float) -> State:
        timed = self._states.get(name)
        return timed.state if timed is not None and now < timed.until else None

    def _alive(self, server: str, now: float) -> bool:
        return now < self._leases.get(server, -inf)

    def _keep(self, name: str, state: State, now: float) -> bool:
        """Keep what was decided on, and return whether anything was."""
        if state is None:
            return False
        seconds = self._ttl if isinstance(state, Kept) else records.REMEMBERED_SECONDS
        self._states[name] = _Timed(state, now + seconds)
        return True

    def _sweep(self, now: float) -> None:
        self._swept = now
        self._states = {name: t for name, t in self._states.items() if now < t.until}
        self._leases = {server: until for server, until in self._leases.items() if now < until}
