"""The unary calls, and what a flow asks of the shell that runs it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

import grpc

from carousel.v1 import models_pb2, server_pb2, states_pb2
from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._block import Barrier
from carousel_client._errors import CarouselError


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
SNAPSHOT = Method(
    "/carousel.v1.SessionService/Snapshot", states_pb2.SnapshotRequest, states_pb2.SnapshotResponse
)
RESTORE = Method(
    "/carousel.v1.SessionService/Restore", states_pb2.RestoreRequest, states_pb2.RestoreResponse
)
FORK = Method("/carousel.v1.SessionService/Fork", states_pb2.ForkRequest, states_pb2.ForkResponse)
MARK = Method("/carousel.v1.SessionService/Mark", states_pb2.MarkRequest, states_pb2.MarkResponse)
REWIND = Method(
    "/carousel.v1.SessionService/Rewind", states_pb2.RewindRequest, states_pb2.RewindResponse
)
GET_STATE = Method(
    "/carousel.v1.SessionService/GetState", states_pb2.GetStateRequest, states_pb2.GetStateResponse
)
SESSIONS = Method(
    "/carousel.v1.SessionService/List", pb.ListSessionsRequest, pb.ListSessionsResponse
)


@dataclass(frozen=True, slots=True)
class Call:
    """Make this call at an address."""

    method: Method
    request: Any
    timeout: float
    address: str
    subject: faults.Subject = "session"

    def failure(self, error: grpc.RpcError) -> CarouselError:
        """Return the error to raise where the call failed with gRPC's."""
        what = self.method.path.rpartition("/")[2]
        late = f"{self.address} did not answer {what} within {self.timeout:g} s"
        return faults.from_rpc_error(error, subject=self.subject, late=late)


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Enter:
    """Wait until a barrier that was submitted is entered, or failed."""

    barrier: Barrier


@dataclass(frozen=True, slots=True)
class Resolve:
    """Look up a name: the IP addresses that it has, none where that fails."""

    name: str


T = TypeVar("T")
Flow: TypeAlias = Generator[Call | Sleep | Enter | Resolve, Any, T]
