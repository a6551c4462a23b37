"""Snapshots: one session's state as bytes that a client keeps, and whether to believe them."""

from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from carousel import wire
from carousel.v1 import states_pb2, tensor_pb2
from carousel_server.catalog import Served
from carousel_server.engine.checkpoints import Gathered
from carousel_server.errors import ConfigError, SnapshotMismatch
from carousel_server.spec import StateSpec

FORMAT = 1
_LEAST_KEY = 16  # bytes
_MOST_WORDS = 600  # characters
# As many as a double counts: the stores' own scripts have no other numbers.
_MOST_STEPS = 2**53


def read_key(path: Path | None) -> bytes:
    """Return the key in a file; none where there is no file.

    Raises:
        ConfigError: it can't be read, or is too short to keep anybody out.

    """
    if path is None:
        return b""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"--snapshot-key-file {path}: {error.strerror}") from error
    if len(key) < _LEAST_KEY:
        raise ConfigError(
            f"--snapshot-key-file {path}: {_LEAST_KEY} bytes or more were expected, {len(key)} came"
        )
    return key


class Snapshots:
    """Writes and reads snapshots, signed where the servers have a key."""

    def __init__(self, key: bytes = b"") -> None:
        self._key = key

    def write(self, model: Served, gathered: Gathered) -> list[bytes]:
        """Return the snapshots of sessions."""
        return [
            self._seal(self._body(model, gathered, row).SerializeToString())
            for row in range(len(gathered.ids))
        ]

    def read(self, model: Served, data: bytes) -> tuple[int, dict[str, NDArray[np.generic]]]:
        """Return the step count and the states of a snapshot.

        Raises:
            SnapshotMismatch: it is damaged, was not signed with this key, or is of another model.

        """
        body = states_pb2.SnapshotBody()
        try:
            body.ParseFromString(self._open(data))
        except DecodeError as error:
            raise _damaged("its body is no SnapshotBody") from error
        if body.applied > _MOST_STEPS:
            raise _damaged(f"applied: it has {body.applied} steps; {_MOST_STEPS} are the most")
        given = {tensor.name: tensor for tensor in body.states}
        expected = [state.name for state in model.spec.states]
        if len(given) != len(body.states) or sorted(given) != sorted(expected):
            raise _other(f"states: it has {sorted(given)}, {model.name} has {sorted(expected)}")
        return body.applied, {
            state.name: _state(model, state, given[state.name]) for state in model.spec.states
        }

    def _body(self, model: Served, gathered: Gathered, row: int) -> states_pb2.SnapshotBody:
        body = states_pb2.SnapshotBody(
            model=model.name,
            version=model.version,
            model_sha256=model.sha256,
            applied=int(gathered.steps[row]),
        )
        body.taken.FromNanoseconds(time.time_ns())
        for state in model.spec.states:
            value = gathered.states[state.name][row]
            body.states.add(
                name=state.name,
                dtype=wire.DATA_TYPES[state.dtype.str],
                shape=state.shape,
                data=value.tobytes(),
            )
        return body

    def _seal(self, body: bytes) -> bytes:
        return states_pb2.Snapshot(
            format=FORMAT,
            body=body,
            sha256=hashlib.sha256(body).digest(),
            signature=self._sign(body) if self._key else b"",
        ).SerializeToString()

    def _open(self, data: bytes) -> bytes:
        snapshot = states_pb2.Snapshot()
        try:
            snapshot.ParseFromString(data)
        except DecodeError as error:
            raise _damaged(f"its {len(data)} bytes are no Snapshot") from error
        if not 1 <= snapshot.format <= FORMAT:
            raise _other(f"format: it has {snapshot.format}, this server reads 1 to {FORMAT}")
        if hashlib.sha256(snapshot.body).digest() != snapshot.sha256:
            raise _damaged("sha256: its body is not what was written")
        if self._key and not hmac.compare_digest(self._sign(snapshot.body), snapshot.signature):
            raise _damaged(
                "signature: it was not signed with this server's key"
                if snapshot.signature
                else "signature: it has none, and this server takes signed ones only"
            )
        return snapshot.body

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def _state(model: Served, state: StateSpec, tensor: tensor_pb2.Tensor) -> NDArray[np.generic]:
    """Return one state in the model's dtype; floating-point ones may come in another width."""
    if tuple(tensor.shape) != state.shape:
        raise _other(
            f"shape of state {state.name!r}: it has {list(tensor.shape)}, {model.name} has "
            f"{list(state.shape)}"
        )
    name = wire.NUMPY_DTYPES.get(tensor.dtype)
    dtype = np.dtype(name) if name else None
    alike = dtype is not None and (dtype == state.dtype or dtype.kind == state.dtype.kind == "f")
    if dtype is None or not alike:
        came = dtype.name if dtype else f"data type {tensor.dtype}"
        raise _other(
            f"dtype of state {state.name!r}: it has {came}, {model.name} has {state.dtype.name}"
        )
    count = int(np.prod(state.shape, dtype=np.int64))
    if len(tensor.data) != count * dtype.itemsize:
        raise _damaged(
            f"state {state.name!r} has {len(tensor.data)} bytes; {count * dtype.itemsize} were "
            "expected"
        )
    with np.errstate(over="ignore"):  # what does not fit is not finite, and is refused as such
        value = np.frombuffer(tensor.data, dtype).reshape(state.shape).astype(state.dtype)
    if state.dtype.kind == "f" and not np.isfinite(value).all():
        raise _damaged(f"state {state.name!r} holds a value that is not finite")
    return value


def _damaged(why: str) -> SnapshotMismatch:
    return SnapshotMismatch(f"the snapshot can't be used: {_cut(why)}", damaged=True)


def _other(why: str) -> SnapshotMismatch:
    return SnapshotMismatch(f"the snapshot does not fit: {_cut(why)}", damaged=False)


def _cut(why: str) -> str:
    """Return what can travel in a header: whoever made the snapshot chose some of the words."""
    return why if len(why) <= _MOST_WORDS else why[:_MOST_WORDS] + "..."
