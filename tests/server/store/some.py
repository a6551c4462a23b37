"""Records to test with."""

from __future__ import annotations

from dataclasses import replace

from carousel_server.store.interface import (
    NOT_COUNTED,
    Birth,
    Checkpoint,
    Header,
    Owner,
    Record,
    Saves,
    Store,
)

HEADER = Header("ve\u00f6gel", "3", "ab" * 32, '[["h", "float32", [1, 4]]]', 1.7e9 + 1 / 3)
RESTORED = replace(HEADER, initial=False)
A = Owner("aaaa", "10.0.0.1:8001")
B = Owner("bbbb", "")
C = Owner("cccc", "[::1]:1")


def at(step: int, data: bytes | None = None) -> Checkpoint:
    return Checkpoint(step, b"%d\x00\xff" % step if data is None else data)


def saves(*rows, header: Header = HEADER) -> Saves:
    """Return columns of rows: (id, token, checkpoint[, delivered[, mark]])."""
    full = [(*row, *(NOT_COUNTED, "")[len(row) - 3 :]) for row in rows]
    return Saves(
        [row[0] for row in full],
        [header] * len(full),
        [row[1] for row in full],
        [row[3] for row in full],
        [row[2] for row in full],
        [row[4] for row in full],
    )


def save(store: Store, owner: Owner, *row) -> bool:
    return store.save(saves(row), owner)[0]


def create(store: Store, owner: Owner, *ids: str) -> list[int]:
    return store.create([Birth(name, HEADER) for name in ids], owner)


def steps(store: Store, name: str) -> list[int]:
    return [checkpoint.step for checkpoint in load(store, name).checkpoints]


def load(store: Store, name: str) -> Record | None:
    return store.load([name])[0]
