"""A store that servers share, in this process, and that goes away when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from carousel_server.store.interface import Owner, Saves, StoreUnavailable
from carousel_server.store.memory import MemoryStore


class SharedStore(MemoryStore):
    """Records that outlive a server, and what it was asked for."""

    shared = True
    place = "shared"

    def __init__(self, clock: Any = None) -> None:
        super().__init__(ttl_seconds=0, **({"clock": clock} if clock else {}))
        self.away = False
        self.broken: Exception | None = None  # raised by the next call
        self.open = threading.Event()  # while it is not set, calls wait
        self.open.set()
        self.calls: list[tuple[str, int]] = []  # name, rows

    def create(self, births: Sequence[Any], owner: Owner) -> list[int]:
        self._ask("create", len(births))
        return super().create(births, owner)

    def save(self, saves: Saves, owner: Owner) -> list[bool]:
        self._ask("save", len(saves))
        return super().save(saves, owner)

    def load(self, ids: Sequence[str]) -> list[Any]:
        self._ask("load", len(ids))
        return super().load(ids)

    def claim(self, ids: Sequence[str], *arguments: Any, **options: Any) -> list[Any]:
        self._ask("claim", len(ids))
        return super().claim(ids, *arguments, **options)

    def release(self, ids: Sequence[str], tokens: Sequence[int]) -> list[bool]:
        self._ask("release", len(ids))
        return super().release(ids, tokens)

    def delete(self, ids: Sequence[str], tokens: Sequence[int]) -> list[bool]:
        self._ask("delete", len(ids))
        return super().delete(ids, tokens)

    def ping(self) -> None:
        self._ask("ping", 0)

    def renew(self, owner: Owner, seconds: float) -> None:
        self._ask("renew", 0)
        super().renew(owner, seconds)

    def retire(self, owner: Owner) -> None:
        self._ask("retire", 0)
        super().retire(owner)

    def names(self) -> list[str]:
        """Return what was asked for, without leases and looks."""
        return [name for name, _ in self.calls if name not in ("ping", "renew", "retire")]

    def steps(self, name: str) -> list[int] | None:
        """Return the steps of a record's checkpoints; None: there is no record."""
        (record,) = super().load([name])
        return None if record is None else [checkpoint.step for checkpoint in record.checkpoints]

    def _ask(self, name: str, rows: int) -> None:
        assert self.open.wait(20)
        if self.away:
            raise StoreUnavailable("it is away")
        if self.broken:
            error, self.broken = self.broken, None
            raise error
        self.calls.append((name, rows))
