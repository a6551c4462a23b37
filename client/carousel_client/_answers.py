"""From StepResponses to columns of numbers that can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from carousel import wire
from carousel.v1 import sessions_pb2 as pb
from carousel_client._columns import Array, Counts, Ints, gather, read, starts
from carousel_client._errors import ServerError
from carousel_client._models import ModelInfo


@dataclass(frozen=True, slots=True)
class Answer:
    """What one StepResponse says of n rows of a request."""

    rows: Ints  # (n,), in the request
    status: Array  # (n,) uint8
    applied: Counts | None  # (n,)
    lengths: Ints  # (n,) steps answered
    outputs: dict[str, Array]  # (sum(lengths), *step) each
    bad: bool  # whether any row is not OK


def decode(response: pb.StepResponse, asked: Ints, model: ModelInfo) -> Answer:
    """Return the columns of an answer to a request for `asked` `(N,)` steps a row.

    Raises ServerError where the columns don't fit together: nothing of such an answer is used.
    """
    rows = _rows(response, len(asked))
    if response.rows:
        asked = asked[rows]
    n = len(rows)
    status = _column(response.status, wire.STATUS_DTYPE, n, "status")
    if status is None:
        status = np.zeros(n, np.uint8)
    lengths = _column(response.lengths, wire.LENGTH_DTYPE, n, "lengths")
    if lengths is None:
        lengths = np.where(status == pb.ROW_STATUS_OK, asked, 0)
    lengths = lengths.astype(np.int64)
    if (lengths > asked).any():
        raise _broken("it answers more steps than were asked for")
    applied = _column(response.applied, wire.STEP_COUNT_DTYPE, n, "applied")
    outputs = _outputs(response, int(lengths.sum()), model)
    return Answer(rows, status, applied, lengths, outputs, bad=bool(response.status.strip(b"\0")))


def pick(answer: Answer, chosen: Ints) -> Answer:
    """Return the answer to some of its rows only, `chosen` being places in it: (m,)."""
    begins, lengths = starts(answer.lengths)[chosen], answer.lengths[chosen]
    return Answer(
        answer.rows[chosen],
        answer.status[chosen],
        None if answer.applied is None else answer.applied[chosen],
        lengths,
        {name: gather(flat, begins, lengths) for name, flat in answer.outputs.items()},
        answer.bad,
    )


def _rows(response: pb.StepResponse, count: int) -> Ints:
    if not response.rows:
        return np.arange(count)
    if len(response.rows) % 4:
        raise _broken("its rows are no whole number of them")
    rows = np.frombuffer(response.rows, wire.ROW_DTYPE).astype(np.int64)
    if rows.max() >= count or len(np.unique(rows)) != len(rows):
        raise _broken(f"its rows are not {count} different ones at most")
    return rows


def _column(data: bytes, dtype: str, count: int, name: str) -> Array | None:
    if not data:
        return None
    column = read(data, dtype, count)
    if column is None:
        raise _broken(f"column {name} has {len(data)} bytes for {count} rows")
    return column


def _outputs(response: pb.StepResponse, steps: int, model: ModelInfo) -> dict[str, Array]:
    if not steps:
        return {}
    sent = {tensor.name: tensor for tensor in response.outputs}
    outputs = {}
    for spec in model.outputs:
        tensor = sent.get(spec.name)
        if tensor is None or tensor.dtype != wire.DATA_TYPES[spec.dtype.str]:
            raise _broken(f"output {spec.name!r} is missing or not {spec.dtype.name}")
        if len(tensor.data) != steps * spec.size * spec.dtype.itemsize:
            raise _broken(f"output {spec.name!r} has {len(tensor.data)} bytes for {steps} steps")
        outputs[spec.name] = np.frombuffer(tensor.data, spec.dtype).reshape(steps, *spec.shape)
    return outputs


def _broken(what: str) -> ServerError:
    return ServerError(f"the server's answer cannot be read: {what}", code="INTERNAL")
