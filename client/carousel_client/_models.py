"""What a server tells about itself, its models and its sessions, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from carousel import wire
from carousel.v1 import manifest_pb2, models_pb2, server_pb2, sessions_pb2, tensor_pb2
from carousel_client import _texts
from carousel_client._classes import Content
from carousel_client._columns import Array
from carousel_client._errors import ServerError
from carousel_client._vocabulary import Vocabulary

_CONTENTS: MappingProxyType[int, Content] = MappingProxyType(
    {
        manifest_pb2.TENSOR_CONTENT_PROBABILITIES: "probabilities",
        manifest_pb2.TENSOR_CONTENT_LOG_PROBABILITIES: "log_probabilities",
    }
)


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One input, output or state: `shape` is that of one step (or one state) of one session.

    The integer v of a tensor with `symbols` stands for the string `symbols[v]`. `content` says
    whether the numbers are probabilities, or their logarithms, of the classes that `columns` names.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()
    unit: str = ""
    description: str = ""
    minimum: int | None = None
    maximum: int | None = None
    symbols: tuple[str, ...] = ()
    content: Content = ""

    @cached_property
    def wire_dtype(self) -> tensor_pb2.DataType.ValueType:
        """The element type as it travels."""
        return wire.DATA_TYPES[self.dtype.str]

    @cached_property
    def size(self) -> int:
        """Elements of one step of one session."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One loaded version of one model; `horizon` is in steps, 0 where it is no forecaster."""

    name: str
    version: str
    is_default: bool
    description: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    states: tuple[TensorInfo, ...]
    state_bytes: int
    horizon: int
    sha256: str

    @cached_property
    def step_bytes(self) -> int:
        """Bytes of one step of one session on the wire, asked or answered, whichever is more."""
        asked = sum(spec.size * spec.dtype.itemsize for spec in self.inputs)
        return max(1, asked, sum(spec.size * spec.dtype.itemsize for spec in self.outputs))

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The symbols of a model that takes text: one input, one symbol a step. None for others."""
        spec = self.inputs[0] if len(self.inputs) == 1 else None
        return Vocabulary(spec.symbols) if spec and spec.symbols and not spec.shape else None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that the model gives probabilities of; empty where it doesn't.

        Those of the first such output, where there are several.
        """
        return next((spec.columns for spec in self.outputs if spec.content), ())

    def encode(self, text: str) -> Array:
        """Return a text as the model takes it, one number a symbol: (T,).

        The longest symbol is taken each time. A character that isn't known becomes the symbol
        "\ufffd" where the model has it. Raises InvalidInput.
        """
        return _texts.encode(self, text)

    def decode(self, ids: Any) -> str:
        """Return the text that numbers of the model's symbols stand for. Raises InvalidInput."""
        return _texts.vocabulary(self)[1].decode(ids)

    def read(self, answer: Any) -> Any:
        """Return an answer's probabilities as `Classes`: `step("text")` does it by itself.

        `answer` is what `step` gave, an array or a dict of them. What holds no probabilities of
        classes stays as it is. Raises InvalidInput.
        """
        return _texts.read_all(self, answer)


@dataclass(frozen=True, kw_only=True)
class SessionInfo:
    """One open session as its server sees it; `idle` is in seconds."""

    id: str
    model: str
    version: str
    applied: int
    durable: int
    place: str
    opened: datetime
    idle: float


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most a server takes at a time; 0 for no bound, `expire_after` in seconds."""

    max_message_bytes: int = 0
    max_chunk: int = 0
    max_sessions: int = 0
    queue_rows: int = 0
    queue_bytes: int = 0
    expire_after: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ServerInfo:
    """Who a server is; `server_id` changes with every start of its process."""

    version: str
    server_id: int
    advertised_address: str
    resumable: bool
    draining: bool
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class Drain:
    """A server's notice that it is going down, in `leaves_in` seconds at the latest.

    `saved_to` says where the sessions were saved, for people; empty where they are lost.
    """

    leaves_in: float
    saved_to: str


def model_info(model: models_pb2.Model) -> ModelInfo:
    """Return a model's description.

    Raises ServerError for an element type that this client doesn't know.
    """
    manifest = model.manifest
    return ModelInfo(
        name=model.name,
        version=model.version,
        is_default=model.is_default,
        description=manifest.description,
        inputs=tuple(_tensor_info(spec) for spec in manifest.inputs),
        outputs=tuple(_tensor_info(spec) for spec in manifest.outputs),
        states=tuple(_state_info(spec) for spec in manifest.states),
        state_bytes=model.state_bytes,
        horizon=manifest.horizon,
        sha256=model.sha256,
    )


def session_info(session: sessions_pb2.Session) -> SessionInfo:
    """Return a session's description."""
    place = sessions_pb2.SessionPlace.Name(session.place)
    return SessionInfo(
        id=session.id,
        model=session.model,
        version=session.version,
        applied=session.applied,
        durable=session.durable,
        place=place.removeprefix("SESSION_PLACE_").lower(),
        opened=session.open_time.ToDatetime(tzinfo=UTC),
        idle=session.idle.ToTimedelta().total_seconds(),
    )


def server_info(info: server_pb2.InfoResponse) -> ServerInfo:
    """Return a server's description."""
    limits = info.limits
    return ServerInfo(
        version=info.version,
        server_id=info.server_id,
        advertised_address=info.advertised_address,
        resumable=info.resumable,
        draining=info.draining,
        limits=Limits(
            max_message_bytes=limits.max_message_bytes,
            max_chunk=limits.max_chunk,
            max_sessions=limits.max_sessions,
            queue_rows=limits.queue_rows,
            queue_bytes=limits.queue_bytes,
            expire_after=limits.expire_after_ms / 1000,
        ),
    )


def drain(notice: sessions_pb2.DrainNotice) -> Drain:
    """Return a server's notice that it is going down."""
    return Drain(leaves_in=notice.leaves_in.ToTimedelta().total_seconds(), saved_to=notice.saved_to)


def _tensor_info(spec: manifest_pb2.TensorSpec) -> TensorInfo:
    return TensorInfo(
        name=spec.name,
        dtype=_dtype(spec.name, spec.dtype),
        shape=tuple(spec.shape),
        columns=tuple(spec.columns),
        unit=spec.unit,
        description=spec.description,
        minimum=spec.minimum if spec.HasField("minimum") else None,
        maximum=spec.maximum if spec.HasField("maximum") else None,
        symbols=tuple(spec.symbols),
        content=_CONTENTS.get(spec.content, ""),  # what a newer server means is left as numbers
    )


def _state_info(spec: manifest_pb2.StateSpec) -> TensorInfo:
    return TensorInfo(
        name=spec.name,
        dtype=_dtype(spec.name, spec.dtype),
        shape=tuple(spec.shape),
        description=spec.description,
    )


def _dtype(name: str, dtype: int) -> np.dtype[np.generic]:
    try:
        return np.dtype(wire.NUMPY_DTYPES[dtype])  # type: ignore[index]
    except KeyError:
        raise ServerError(
            f"tensor {name!r} has element type {dtype}, which this client doesn't know; update it",
            code="UNKNOWN",
        ) from None
