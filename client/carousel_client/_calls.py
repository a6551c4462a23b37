"""The unary calls, and what a flow asks of the shell that runs it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

from carousel.v1 import models_pb2, server_pb2
from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults


class Method(NamedTuple):
    """One unary RPC."""

    path: str
    request: type[Any]
    response: type[Any]


INFO = Method("/carousel.v1.ServerService/Info", server_pb2.InfoRequest, server_pb2.InfoResponse)
MODELS = Method(
    "/carousel.v1.ModelService/List", models_pb2.ListModelsRequest, models_pb2.ListModelsResponse
)
MODEL = Method(
    "/carousel.v1.ModelService/Get", models_pb2.GetModelRequest, models_pb2.GetModelResponse
)
OPEN = Method("/carousel.v1.SessionService/Open", pb.OpenRequest, pb.OpenResponse)
ATTACH = Method("/carousel.v1.SessionService/Attach", pb.AttachRequest, pb.AttachResponse)
RESET = Method("/carousel.v1.SessionService/Reset", pb.ResetRequest, pb.ResetResponse)
CLOSE = Method("/carousel.v1.SessionService/Close", pb.CloseRequest, pb.CloseResponse)
SESSIONS = Method(
    "/carousel.v1.SessionService/List", pb.ListSessionsRequest, pb.ListSessionsResponse
)


@dataclass(frozen=True, slots=True)
class Call:
    """Make this call; at the address with this index, or at the server in use."""

    method: Method
    request: Any
    timeout: float
    subject: faults.Subject = "session"
    address: int | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    seconds: float


T = TypeVar("T")
Flow: TypeAlias = Generator[Call | Sleep, Any, T]
