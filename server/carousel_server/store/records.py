"""What becomes of a session's record: pure functions, from what is there to what is to be there.

`memory.py` and `files.py` keep what these return; `redis.py` has the same rules in Lua, since Redis
must compare and write in one go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from carousel_server.store.interface import (
    NOT_COUNTED,
    Birth,
    Checkpoint,
    Header,
    Owner,
    Record,
    Saves,
)

#: A server that sleeps longer than this, and whose sessions were removed meanwhile, may make a
#: record again that nobody wants; it goes when its time to live is over.
REMEMBERED_SECONDS = 3600.0

NOBODY = Owner(server="", address="")


@dataclass(frozen=True, slots=True)
class Kept:
    """A record as a store keeps it; `checkpoints` in the order of their steps."""

    header: Header
    owner: Owner  # NOBODY: released
    token: int
    checkpoints: tuple[Checkpoint, ...]
    marks: tuple[tuple[str, Checkpoint], ...] = ()  # in the order of their names

    def record(self, name: str) -> Record:
        """Return it as others see it."""
        return Record(name, self.header, self.token, self.checkpoints, self.marks)


@dataclass(frozen=True, slots=True)
class Gone:
    """What is remembered of a record that was removed."""

    token: int


#: What is there under an id.
State = Kept | Gone | None


@dataclass(frozen=True, slots=True)
class Save:
    """One row of `Saves`."""

    header: Header
    token: int
    delivered: int
    checkpoint: Checkpoint
    mark: str


def rows(saves: Saves) -> list[Save]:
    """Return the columns as rows."""
    columns = (saves.headers, saves.tokens, saves.delivered, saves.checkpoints, saves.marks)
    return [Save(*row) for row in zip(*columns, strict=True)]


def created(state: State, birth: Birth, owner: Owner) -> Kept | None:
    """Return the new session's record, None where the id is taken."""
    if isinstance(state, Kept) and state.owner.server != owner.server:
        return None
    checkpoints = () if birth.checkpoint is None else (birth.checkpoint,)
    return Kept(birth.header, owner, state.token + 1 if state else 1, checkpoints)


def saved(state: State, save: Save, owner: Owner) -> Kept | None:
    """Return the record with a checkpoint more, None where the owner may not write it."""
    if isinstance(state, Gone) and save.token <= state.token:
        return None
    if isinstance(state, Kept) and save.token <= state.token:
        if (save.token, owner.server) != (state.token, state.owner.server):
            return None
        return _with_mark(state, save) if save.mark else _with_checkpoint(state, save)
    anew = Kept(save.header, owner, save.token, (save.checkpoint,))
    return _with_mark(anew, save) if save.mark else anew


def _with_mark(kept: Kept, save: Save) -> Kept:
    marks = {**dict(kept.marks), save.mark: save.checkpoint}
    return replace(kept, marks=tuple(sorted(marks.items())))


def _with_checkpoint(kept: Kept, save: Save) -> Kept:
    before = [old for old in kept.checkpoints if old.step < save.checkpoint.step]
    checkpoints = (*before, save.checkpoint)
    return replace(kept, checkpoints=checkpoints[first_needed(checkpoints, save.delivered) :])


def first_needed(checkpoints: tuple[Checkpoint, ...], delivered: int) -> int:
    """Return the place of the newest checkpoint at or before `delivered`; there is at least one."""
    if delivered == NOT_COUNTED:
        return len(checkpoints) - 1
    return max(sum(checkpoint.step <= delivered for checkpoint in checkpoints) - 1, 0)


def claimable(kept: Kept, owner: Owner, alive: Callable[[str], bool]) -> bool:
    """Return whether `owner` may take the session over; `alive` tells of a server's lease."""
    holder = kept.owner.server
    return holder in ("", owner.server) or not alive(holder)


def claimed(kept: Kept, owner: Owner, delivered: int) -> Kept:
    """Return the record with a new owner."""
    left = kept.checkpoints
    if delivered != NOT_COUNTED:
        left = tuple(checkpoint for checkpoint in left if checkpoint.step <= delivered)
        if not (left or kept.header.initial):
            left = kept.checkpoints
    return replace(kept, owner=owner, token=kept.token + 1, checkpoints=left)


def released(state: State, token: int) -> Kept | None:
    """Return the record without an owner, None where it may not be released."""
    if not isinstance(state, Kept) or state.token != token:
        return None
    return replace(state, owner=NOBODY)


def removed(state: State, token: int) -> Gone | None:
    """Return what is remembered of the record, None where it may not be removed."""
    if isinstance(state, Kept) and state.token > token:
        return None
    return Gone(max(token, state.token if state else 0))
