"""From StepResponses to columns of numbers that can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from carousel import wire
from carousel.v1 import sessions_pb2 as pb
from carousel_client._columns import Array, Counts, Ints, gather, read, starts
from carousel_client._errors import ServerError
from carousel_client._models import ModelInfo

_FIRST_ROW = (0).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one StepResponse says of n rows of a request."""

    rows: Ints  # (n,), in the request
    status: Array  # (n,) uint8
    applied: Counts | None  # (n,)
    durable: Counts | None  # (n,)
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
    durable = _column(response.durable, wire.STEP_COUNT_DTYPE, n, "durable")
    outputs = _outputs(response, int(lengths.sum()), model)
    return Answer(
        rows, status, applied, durable, lengths, outputs, bad=bool(response.status.strip(b"\0"))
    )


class Row(NamedTuple):
    """What an answer says of one row; outputs are `(length, *step)` each."""

    status: int
    applied: int | None
    durable: int
    length: int
    outputs: dict[str, Array]


def decode_one(response: pb.StepResponse, asked: int, model: ModelInfo) -> Row:
    """Do what `decode` does for a request of one row, without columns: most requests have one.

    Raises ServerError.
    """
    if response.rows not in (b"", _FIRST_ROW):
        raise _broken("its rows are not the one that was sent")
    widths = (len(response.status), len(response.applied), len(response.lengths))
    if (
        widths[0] > 1
        or widths[1] not in (0, 8)
        or widths[2] not in (0, 4)
        or (len(response.durable) not in (0, 8))
    ):
        raise _broken(f"columns status, applied, lengths have {widths} bytes for 1 row")
    status = response.status[0] if response.status else pb.ROW_STATUS_OK
    length = int.from_bytes(response.lengths, "little")
    if not response.lengths:
        length = asked if status == pb.ROW_STATUS_OK else 0
    if length > asked:
        raise _broken("it answers more steps than were asked for")
    applied = int.from_bytes(response.applied, "little") if response.applied else None
    durable = int.from_bytes(response.durable, "little")
    return Row(status, applied, durable, length, _outputs(response, length, model))


def each_row(answer: Answer) -> list[Row]:
    """Return all rows of an answer, in its order."""
    n = len(answer.rows)
    applied = [None] * n if answer.applied is None else answer.applied.tolist()
    durable = [0] * n if answer.durable is None else answer.durable.tolist()
    lengths, status = answer.lengths.tolist(), answer.status.tolist()
    ends = list(accumulate(lengths))
    outputs: list[dict[str, Array]]
    if len(answer.outputs) == 1:
        ((name, flat),) = answer.outputs.items()
        outputs = [{name: flat[end - k : end]} for end, k in zip(ends, lengths, strict=True)]
    else:
        outputs = [
            {name: flat[end - k : end] for name, flat in answer.outputs.items()}
            for end, k in zip(ends, lengths, strict=True)
        ]
    return list(map(Row, status, applied, durable, lengths, outputs))


def one_row(answer: Answer, place: int, begin: int) -> Row:
    """Return the row at a place in an answer; its steps begin at `begin`."""
    length = int(answer.lengths[place])
    return Row(
        int(answer.status[place]),
        None if answer.applied is None else int(answer.applied[place]),
        0 if answer.durable is None else int(answer.durable[place]),
        length,
        {name: flat[begin : begin + length] for name, flat in answer.outputs.items()},
    )


def pick(answer: Answer, chosen: Ints) -> Answer:
    """Return the answer to some of its rows only, `chosen` being places in it: (m,)."""
    begins, lengths = starts(answer.lengths)[chosen], answer.lengths[chosen]
    return Answer(
        answer.rows[chosen],
        answer.status[chosen],
        None if answer.applied is None else answer.applied[chosen],
        None if answer.durable is None else answer.durable[chosen],
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
        if tensor is None or tensor.dtype != spec.wire_dtype:
            raise _broken(f"output {spec.name!r} is missing or not {spec.dtype.name}")
        if len(tensor.data) != steps * spec.size * spec.dtype.itemsize:
            raise _broken(f"output {spec.name!r} has {len(tensor.data)} bytes for {steps} steps")
        outputs[spec.name] = np.frombuffer(tensor.data, spec.dtype).reshape(steps, *spec.shape)
    return outputs


def _broken(what: str) -> ServerError:
    return ServerError(f"the server's answer cannot be read: {what}", code="INTERNAL")
