"""What a fake server keeps: sessions, and a store that several servers may share.

As unkind as the rules allow: of a session's checkpoints the store drops at once each one that it
may drop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from carousel.v1 import models_pb2


@dataclass
class Kept:
    """A checkpoint, or a mark."""

    step: int
    total: np.ndarray


@dataclass
class Record:
    """A session in the store."""

    id: str
    model: models_pb2.Model
    owner: Any  # the server that has it, None where nobody does
    checkpoints: list[Kept] = field(default_factory=list)
    marks: dict[str, Kept] = field(default_factory=dict)


@dataclass
class Held:
    """One session at a server: its running sum and how many steps it holds."""

    id: str
    handle: int
    model: models_pb2.Model
    total: np.ndarray
    applied: int = 0
    durable: int = 0
    delivered: int = -1
    unsaved: int = 0  # steps since the last checkpoint


@dataclass
class Store:
    """Records by id. `shared` says whether other servers than one may have it."""

    shared: bool = True
    records: dict[str, Record] = field(default_factory=dict)

    def create(self, held: Held, owner: Any) -> None:
        born = [Kept(held.applied, held.total.copy())]
        self.records[held.id] = Record(held.id, held.model, owner, born)

    def save(self, held: Held, owner: Any) -> bool:
        """Write a checkpoint; False where another server has the session by now."""
        record = self.records.get(held.id)
        if record is None or record.owner is not owner:
            return False
        kept = [one for one in record.checkpoints if one.step < held.applied]
        record.checkpoints = [*kept, Kept(held.applied, held.total.copy())]
        self.trim(record, held.delivered)
        return True

    def trim(self, record: Record, delivered: int) -> None:
        """Drop what may be dropped: all but the newest at or before `delivered`, and later ones."""
        below = [one for one in record.checkpoints if one.step <= delivered]
        if delivered < 0:
            record.checkpoints = record.checkpoints[-1:]
        elif below:
            record.checkpoints = record.checkpoints[len(below) - 1 :]
