"""Between step messages and the engine's columns.

Everything that can be said of a message without knowing its sessions is checked here; what is
wrong makes the whole message fail (`InvalidRequest`), and nothing of it reaches the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel import wire
from carousel.v1 import sessions_pb2, tensor_pb2
from carousel_server.engine.batch import Answer, StepBatch
from carousel_server.engine.limits import EngineLimits
from carousel_server.errors import InvalidRequest
from carousel_server.spec import ModelSpec, StateSpec, TensorSpec

# Bytes of an element of a column.
_HANDLE, _LENGTH, _COUNT = (
    np.dtype(name).itemsize
    for name in (wire.HANDLE_DTYPE, wire.LENGTH_DTYPE, wire.STEP_COUNT_DTYPE)
)


def read_handles(data: bytes) -> NDArray[np.uint64]:
    """Return a column of handles.

    Raises:
        InvalidRequest: it is empty, or no column of uint64.

    """
    _rows("handles", data, _HANDLE)
    return np.frombuffer(data, wire.HANDLE_DTYPE)


def read_counts(name: str, data: bytes, rows: int) -> NDArray[np.int64] | None:
    """Return a column of step counts; None where it is empty.

    Raises:
        InvalidRequest: it has another length than `rows`.

    """
    if not data:
        return None
    _check_column(name, data, _COUNT, rows)
    # A count beyond int64 can't be right, and stays beyond every session's count when cut.
    counts = np.frombuffer(data, wire.STEP_COUNT_DTYPE)
    cut: NDArray[np.int64] = np.minimum(counts, np.uint64(2**62)).astype(np.int64)
    return cut


def read_step(
    request: sessions_pb2.StepRequest,
    spec: ModelSpec,
    limits: EngineLimits,
    reply: Callable[[Answer], None],
    *,
    deadline: float = math.inf,
    stream: int = 0,
    whole: bool = False,
) -> StepBatch:
    """Return the rows of a step message.

    Raises:
        InvalidRequest: columns don't fit together, an input is not as the model declares it, or
            there is more than the limits allow.

    """
    handles, lengths, first_step = request.handles, request.lengths, request.first_step
    rows = steps = _rows("handles", handles, _HANDLE)
    if rows > limits.queue_rows:
        raise InvalidRequest(
            f"the message has {rows} rows; {limits.queue_rows} may wait for a model"
        )
    if lengths:
        _check_column("lengths", lengths, _LENGTH, rows)
        steps, longest = _steps(lengths)
        if longest > limits.max_chunk:
            raise InvalidRequest(
                f"a chunk of {longest} steps came; {limits.max_chunk} are the most"
            )
        if longest == 1 and steps == rows:
            lengths = b""
    if first_step:
        _check_column("first_step", first_step, _COUNT, rows)
    if delivered := request.delivered:
        _check_column("delivered", delivered, _COUNT, rows)
    inputs = _inputs(request, spec, steps)
    # Such a message would be BUSY for ever.
    if (size := sum(map(len, inputs))) > limits.queue_bytes:
        raise InvalidRequest(
            f"the message has {size} bytes of inputs; {limits.queue_bytes} may wait for a model"
        )
    return StepBatch(
        reply,
        rows,
        steps,
        handles,
        inputs,
        lengths,
        first_step,
        delivered,
        deadline,
        stream,
        whole,
    )


def _rows(name: str, data: bytes, width: int) -> int:
    count, rest = divmod(len(data), width)
    if rest or not count:
        raise InvalidRequest(
            f"{name} has {len(data)} bytes; one or more numbers of {width} bytes were expected"
        )
    return count


def _check_column(name: str, data: bytes, width: int, rows: int) -> None:
    if len(data) != rows * width:
        raise InvalidRequest(
            f"{name} has {len(data)} bytes; {rows} rows of {width} bytes were expected"
        )


def _steps(lengths: bytes) -> tuple[int, int]:
    """Return the sum of a column of lengths, and the longest."""
    if len(lengths) == _LENGTH:
        length = int.from_bytes(lengths, "little")
        return length, length
    column = np.frombuffer(lengths, wire.LENGTH_DTYPE)
    return int(column.sum(dtype=np.int64)), int(column.max())


def _inputs(request: sessions_pb2.StepRequest, spec: ModelSpec, steps: int) -> tuple[bytes, ...]:
    tensors = request.inputs
    if len(tensors) == 1 and len(spec.inputs) == 1:
        return (_data(tensors[0], spec.inputs[0], steps),)
    given = {tensor.name: tensor for tensor in tensors}
    expected = [tensor.name for tensor in spec.inputs]
    if len(given) != len(tensors) or sorted(given) != sorted(expected):
        came = [tensor.name for tensor in tensors]
        raise InvalidRequest(f"the inputs {expected} were expected, each once; {came} came")
    return tuple(_data(given[tensor.name], tensor, steps) for tensor in spec.inputs)


def _data(tensor: tensor_pb2.Tensor, spec: TensorSpec, steps: int) -> bytes:
    if tensor.name != spec.name:
        raise InvalidRequest(f"the input {spec.name!r} was expected; {tensor.name!r} came")
    check_tensor(tensor, spec, (steps, *spec.shape))
    return tensor.data


def check_tensor(
    tensor: tensor_pb2.Tensor, spec: TensorSpec | StateSpec, shape: tuple[int, ...]
) -> None:
    """Check a tensor's dtype, shape and size.

    Raises:
        InvalidRequest: one of them is not as expected.

    """
    if wire.NUMPY_DTYPES.get(tensor.dtype) != spec.dtype.str:
        known = wire.NUMPY_DTYPES.get(tensor.dtype)
        came = np.dtype(known).name if known else f"data type {tensor.dtype}"
        raise InvalidRequest(f"{spec.name!r} is {spec.dtype.name}; {came} came")
    if tuple(tensor.shape) != shape:
        raise InvalidRequest(
            f"{spec.name!r} has shape {list(shape)} here, steps or sessions first; "
            f"{list(tensor.shape)} came"
        )
    expected = math.prod(shape) * spec.dtype.itemsize
    if len(tensor.data) != expected:
        raise InvalidRequest(
            f"{spec.name!r} has {len(tensor.data)} bytes; {list(shape)} of {spec.dtype.name} are "
            f"{expected}"
        )


def read_states(
    tensors: Mapping[str, tensor_pb2.Tensor], spec: ModelSpec, count: int
) -> dict[str, NDArray[np.generic]]:
    """Return initial states, `[count, ...]` by name.

    Raises:
        InvalidRequest: there is no such state, or it is not as the model declares it.

    """
    states = {state.name: state for state in spec.states}
    result = {}
    for name, tensor in tensors.items():
        if name not in states:
            raise InvalidRequest(f"the model has the states {sorted(states)}; {name!r} came")
        state = states[name]
        shape = (count, *state.shape)
        check_tensor(tensor, state, shape)
        values: NDArray[Any] = np.frombuffer(tensor.data, state.dtype).reshape(shape)
        if state.dtype.kind == "f" and not np.isfinite(values).all():
            raise InvalidRequest(f"initial state {name!r} holds a value that is not finite")
        result[name] = values
    return result


class AnswerWriter:
    """Writes answers of one model; what is the same in all of them is looked up once."""

    def __init__(self, spec: ModelSpec) -> None:
        self._outputs = [
            (tensor.name, wire.DATA_TYPES[tensor.dtype.str], tensor.shape)
            for tensor in spec.outputs
        ]

    def write(self, answer: Answer, response: sessions_pb2.StepResponse) -> None:
        """Fill a response, whose id is set already."""
        response.done = answer.done
        response.applied = answer.applied
        response.durable = answer.durable
        response.lengths = answer.lengths
        if answer.rows:
            response.rows = answer.rows
        if answer.status:
            response.status = answer.status
            response.retry_after_ms = answer.retry_after_ms
            for row, why in answer.errors:
                response.errors.add(row=row, message=why)
        # There is no output where no row ran.
        for (name, dtype, shape), data in zip(self._outputs, answer.outputs, strict=False):
            tensor = response.outputs.add()
            tensor.name = name
            tensor.dtype = dtype
            tensor.shape.extend((answer.steps, *shape))
            tensor.data = data
