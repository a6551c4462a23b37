"""A session's hash in Redis, as `lua/common.lua` has it, and the record that it makes up."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict

from carousel_server import log
from carousel_server.store.interface import Checkpoint, Header, Held, Owner, Record

_MARK_STEP = struct.Struct("<q")


def header_text(header: Header) -> str:
    """Return a header as Redis has it."""
    return json.dumps(asdict(header))


def claimed(name: str, row: list[bytes] | None) -> Record | Held | None:
    """Return what the script for claims says of a session."""
    if row is not None and len(row) == 3:
        return Held(name, Owner(row[1].decode(), row[2].decode()))
    return record(name, row)


def record(name: str, row: list[bytes] | None) -> Record | None:
    """Return the record that fields and values make up, None where they make up none."""
    if row is None:
        return None
    fields = dict(zip(row[::2], row[1::2], strict=True))
    try:
        header = Header(**json.loads(fields[b"header"]))
        checkpoints = [
            Checkpoint(int(key[2:]), data) for key, data in fields.items() if key[:2] == b"c:"
        ]
        marks = [
            (key[2:].decode(), _mark(data)) for key, data in fields.items() if key[:2] == b"m:"
        ]
        token = int(fields[b"token"])
    except (ValueError, TypeError, KeyError, struct.error) as error:
        log.get().warning("a record in Redis is damaged", session=name, reason=str(error))
        return None
    checkpoints.sort(key=lambda checkpoint: checkpoint.step)
    return Record(name, header, token, tuple(checkpoints), tuple(sorted(marks)))


def _mark(data: bytes) -> Checkpoint:
    (step,) = _MARK_STEP.unpack_from(data)
    return Checkpoint(step, data[_MARK_STEP.size :])
