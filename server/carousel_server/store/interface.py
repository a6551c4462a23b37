"""What a store is: records of sessions, each with an owner, a fencing token and checkpoints.

A server owns the sessions whose records name it. Ownership is the right to write: every write gives
the token that the record had when the server became its owner, and is refused where the record has
another one by now (`save`, `release`, `delete` compare and write atomically). Whoever takes a
session over raises its token (`claim`), so a server that was cut off, or slept, can't write any
more, whatever it believes.

A server lives as long as its lease is renewed (`renew`); a session can be taken over when its
record names nobody, or a server whose lease ran out.

Tokens of an id only grow, over its deletion too while that is remembered. A record that the store
lost is made again by its owner's next save.

Stores are called from one thread at a time, and may block. They raise `StoreUnavailable` when they
can't be reached or don't answer in time; nothing is known then of what was written, and the same
call may be made again: the same owner can repeat any. Ids are at most 512 characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

#: In `Saves.delivered`: nobody counts what was delivered, so only the newest checkpoint is kept.
NOT_COUNTED = -1


class StoreUnavailable(Exception):
    """The store can't be reached, or doesn't answer in time; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A server, as others find it."""

    server: str  # unique to the process: its server_id in hexadecimal digits
    address: str  # HOST:PORT at which clients reach it; "" where it gave none


@dataclass(frozen=True, slots=True)
class Header:
    """What does not change in a session's life."""

    model: str
    version: str
    sha256: str  # of the model file, hexadecimal
    schema: str  # of its states: JSON, a list of [name, numpy dtype, shape]
    opened: float  # seconds since the epoch
    initial: bool = True  # whether it began with its model's initial state, at step 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A session's states after `step` steps: their bytes end to end, in the schema's order."""

    step: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Record:
    """A session in the store; `checkpoints` in the order of their steps.

    `marks` are checkpoints with a name, in the order of names. A session without any checkpoint
    stands at its model's initial state.
    """

    id: str
    header: Header
    token: int
    checkpoints: tuple[Checkpoint, ...]
    marks: tuple[tuple[str, Checkpoint], ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """A session that a living server has, and so can't be claimed."""

    id: str
    owner: Owner


@dataclass(frozen=True, slots=True)
class Birth:
    """A new session: its record is to be made, and with a checkpoint if it has one."""

    id: str
    header: Header
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class Saves:
    """Checkpoints of N sessions; columns of N.

    A session may come more than once; its checkpoints are written in the order given.

    `delivered` is how many answers the session's client holds: of the checkpoints that the record
    has then, the new one among them, the newest at or before `delivered` stays, and so do later
    ones; earlier ones go. NOT_COUNTED: only the new one stays. Checkpoints of later steps than the
    new one always go: the session was put back, and will take another way. Where `marks` has a
    name, the checkpoint is kept as that mark instead, in the place of an earlier mark of the name,
    and no other goes.

    `headers` are there because a record that is not there, because the store lost it, is made
    again; then a mark is kept as a checkpoint too, since without any the session would stand at
    its initial state.
    """

    ids: Sequence[str]
    headers: Sequence[Header]
    tokens: Sequence[int]
    delivered: Sequence[int]
    checkpoints: Sequence[Checkpoint]
    marks: Sequence[str]  # "" where it is no mark

    def __len__(self) -> int:
        return len(self.ids)


class Store(Protocol):
    """Records of sessions."""

    @property
    def shared(self) -> bool:
        """Whether a session is still there when its server is gone."""

    @property
    def place(self) -> str:
        """Where it is, for people, without secrets: "redis://cache:6379/0"."""

    def ping(self) -> None:
        """Return if the store answers."""

    def renew(self, owner: Owner, seconds: float) -> None:
        """Let a server live for so long from now."""

    def retire(self, owner: Owner) -> None:
        """End a server's lease: whatever it still owns can be taken over at once."""

    def create(self, births: Sequence[Birth], owner: Owner) -> list[int]:
        """Make records of new sessions, and return their tokens; ids are distinct.

        A token is 1, or one above that of the id's deletion, so that what a sleeping server still
        has of an earlier session can't be written. 0 for each id that has a record already, which
        stays. A record of `owner` itself is replaced, its token raised: it is left over from a
        call that went unanswered.
        """

    def save(self, saves: Saves, owner: Owner) -> list[bool]:
        """Write checkpoints; False for each record that is not the owner's by now.

        That is one with a higher token, or with the same and another owner, or one that was
        deleted; it stays as it is. A record with a lower token is what the store still had, or was
        given by somebody else, after it lost the owner's: it is made anew.
        """

    def load(self, ids: Sequence[str]) -> list[Record | None]:
        """Read records, whoever owns them; None for each id that has none."""

    def claim(
        self,
        ids: Sequence[str],
        owner: Owner,
        delivered: Sequence[int] | None = None,
        *,
        released_only: bool = False,
    ) -> list[Record | Held | None]:
        """Take sessions over, with their tokens raised, unless a living server has them.

        None for each id that has no record. A session that `owner` has already is claimed too; its
        earlier token is refused from then on, so what is queued with it is not written. Ids are
        distinct.

        `delivered` has, for each id, how many answers its client holds, or NOT_COUNTED: checkpoints
        of later steps go, for the session goes on from the newest one left, and its client may send
        other inputs than it had sent for the steps after `delivered`. All stay where it can't go
        on at all: none is left, and it did not begin with its model's initial state.

        With `released_only` those that name another server are left to it, whether it lives or not:
        its lease may have run out although it does.
        """

    def release(self, ids: Sequence[str], tokens: Sequence[int]) -> list[bool]:
        """Give sessions up, so that others can claim them; False where the token is another.

        False too where there is no record.
        """

    def delete(self, ids: Sequence[str], tokens: Sequence[int]) -> list[bool]:
        """Remove records; False where the token is a higher one by now, True where there is none.

        The token is remembered for a while, so that `save` with it, or with a lower one, by a
        server that has slept, does not make the record again.
        """

    def close(self) -> None:
        """Give up connections and files."""
