"""A record as the bytes of a file, and back; a changed or missing byte shows."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from carousel_server.store.interface import Checkpoint, Header, Owner
from carousel_server.store.records import Gone, Kept

# The file: magic, sum of all that follows (16 bytes), length of the JSON (uint32), JSON, then the
# bytes of checkpoints and marks end to end. The JSON says whose they are and how long.
_MAGIC = b"carousel record 1\n"
_SUM = 16
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Written:
    """What a file has: a session's state, until when it counts (seconds since the epoch)."""

    id: str
    until: float
    state: Kept | Gone


def encode(written: Written) -> bytes:
    """Return a file's bytes."""
    about: dict[str, Any] = {"id": written.id, "until": written.until, "token": written.state.token}
    blobs: list[bytes] = []
    if isinstance(written.state, Kept):
        kept = written.state
        about["header"] = asdict(kept.header)
        about["owner"] = asdict(kept.owner)
        about["checkpoints"] = [[one.step, len(one.data)] for one in kept.checkpoints]
        about["marks"] = [[name, one.step, len(one.data)] for name, one in kept.marks]
        blobs = [one.data for one in kept.checkpoints] + [one.data for _, one in kept.marks]
    text = json.dumps(about).encode()
    body = b"".join([_LENGTH.pack(len(text)), text, *blobs])
    return _MAGIC + _sum(body) + body


def decode(data: bytes) -> Written:
    """Return what a file has.

    Raises:
        ValueError: it is no record, or a damaged one; the message says which.

    """
    start = len(_MAGIC) + _SUM
    if not data.startswith(_MAGIC):
        raise ValueError(f"a file that begins with {_MAGIC!r} was expected")
    body = data[start:]
    if len(data) < start + _LENGTH.size or _sum(body) != data[len(_MAGIC) : start]:
        raise ValueError(f"its {len(data)} bytes do not add up to the sum that it was written with")
    (length,) = _LENGTH.unpack_from(body)
    about = json.loads(body[_LENGTH.size : _LENGTH.size + length])
    return Written(about["id"], about["until"], _state(about, body[_LENGTH.size + length :]))


def _state(about: dict[str, Any], blobs: bytes) -> Kept | Gone:
    if "header" not in about:
        return Gone(about["token"])
    checkpoints, marks = about["checkpoints"], about["marks"]
    sizes = [size for _, size in checkpoints] + [size for _, _, size in marks]
    data = _split(blobs, sizes)
    return Kept(
        Header(**about["header"]),
        Owner(**about["owner"]),
        about["token"],
        tuple(Checkpoint(step, next(data)) for step, _ in checkpoints),
        tuple((name, Checkpoint(step, next(data))) for name, step, _ in marks),
    )


def _split(blobs: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield blobs[at : at + size]
        at += size


def _sum(body: bytes) -> bytes:
    return blake2b(body, digest_size=_SUM).digest()
