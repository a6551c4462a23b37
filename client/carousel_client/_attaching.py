"""Taking up sessions by their ids: each one that can be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from carousel import wire
from carousel.v1 import sessions_pb2 as pb
from carousel_client._calls import ATTACH, Call, Flow
from carousel_client._columns import Array, Counts, Ints
from carousel_client._errors import ServerError, SessionExpired, SessionNotFound, Unavailable
from carousel_client._hosts import Host

#: How many sessions are attached to by one call, so that none holds up a server for long.
PART = 1000


@dataclass(slots=True)
class Attached:
    """What became of N sessions at one server; columns of N."""

    status: Array  # uint8, RowStatus
    handles: Counts
    applied: Ints
    durable: Ints
    model: str = ""
    version: str = ""
    moved: dict[str, str] = field(default_factory=dict)  # by id, where those are that are MOVED
    words: dict[str, str] = field(default_factory=dict)  # by id, what the server said

    def some(self, part: slice, chosen: npt.NDArray[np.bool_]) -> Attached:
        """Return the columns of those sessions of a part that are chosen."""
        return Attached(
            self.status[part][chosen],
            self.handles[part][chosen],
            self.applied[part][chosen],
            self.durable[part][chosen],
        )


def attach_each(
    host: Host, model: str, ids: Sequence[str], delivered: Ints | None, limit: float
) -> Flow[Attached]:
    """Attach to those of these sessions that a server lets have; see AttachRequest.delivered.

    `limit` is for how many seconds to wait for each part. Raises what the call raises; sessions of
    parts before that are then attached to in vain.
    """
    count = len(ids)
    found = Attached(
        np.full(count, pb.ROW_STATUS_NOT_FOUND, np.uint8),
        np.zeros(count, np.uint64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
    )
    spans = [(begin, min(begin + PART, count)) for begin in range(0, count, PART)]
    while spans:
        begin, end = spans.pop(0)
        request = pb.AttachRequest(model=model, ids=ids[begin:end], each=True)
        if delivered is not None:
            request.delivered = delivered[begin:end].astype(wire.STEP_COUNT_DTYPE).tobytes()
        try:
            response = yield Call(ATTACH, request, limit, host.address)
        except SessionNotFound as error:  # from a server that attaches to all or to none
            middle = (begin + end) // 2
            if middle > begin:
                spans += [(begin, middle), (middle, end)]
                continue
            if isinstance(error, SessionExpired):
                found.status[begin] = pb.ROW_STATUS_EXPIRED
            found.words[ids[begin]] = str(error)
            continue
        same_server(host, response.server_id)
        _take(found, begin, end, response)
    return found


def same_server(host: Host, server_id: int) -> None:
    """Raise Unavailable where another process answered than the one that was asked."""
    if server_id != host.info.server_id:
        host.doubted = True
        raise Unavailable(f"the server at {host.address} has just started again")


def _take(found: Attached, begin: int, end: int, response: pb.AttachResponse) -> None:
    """Take in the answer about the sessions from `begin` to `end`. Raises ServerError."""
    status = response.status or bytes(end - begin)
    columns = (
        (found.status, status, wire.STATUS_DTYPE),
        (found.handles, response.handles, wire.HANDLE_DTYPE),
        (found.applied, response.applied, wire.STEP_COUNT_DTYPE),
        (found.durable, response.durable, wire.STEP_COUNT_DTYPE),
    )
    for column, data, dtype in columns:
        values = np.frombuffer(data, dtype)
        if len(values) != end - begin:
            raise ServerError(
                f"the server's answer cannot be read: {len(values)} values for {end - begin} "
                "sessions",
                code="INTERNAL",
            )
        column[begin:end] = values
    found.model = response.model or found.model
    found.version = response.version or found.version
    found.moved.update((one.id, one.address) for one in response.moved)
