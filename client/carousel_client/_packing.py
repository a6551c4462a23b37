"""From waiting blocks to StepRequests that the server's limits allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from carousel import wire
from carousel.v1 import sessions_pb2 as pb
from carousel.v1 import tensor_pb2
from carousel_client._block import FIRST_ROW, Block
from carousel_client._columns import ONE_STEP, Array, Ints, column, gather
from carousel_client._errors import InvalidInput
from carousel_client._models import Limits, ModelInfo

#: Bytes a row's numbers take at most, asked or answered: see the columns of StepResponse.
ROW_BYTES = 32
#: Bytes kept free in a message for names, framing and words about failed rows.
ENVELOPE_BYTES = 4096


class Room(NamedTuple):
    """What a message may hold: rows, bytes (inputs or outputs, whichever is more), steps a row.

    `queue` is how many bytes of a model may be on their way in all.
    """

    rows: int
    size: int
    chunk: int
    queue: int


def room(limits: Limits, max_message_bytes: int) -> Room:
    """Return the room of an empty message, by the server's limits and the client's own."""
    sizes = [max_message_bytes, limits.max_message_bytes, limits.queue_bytes]
    envelope = min(ENVELOPE_BYTES, max_message_bytes // 4)
    return Room(
        rows=limits.queue_rows or 2**31,
        size=min(size for size in sizes if size) - envelope,
        chunk=limits.max_chunk or 2**31,
        queue=(limits.queue_bytes or 2**62) - envelope,
    )


@dataclass(slots=True, eq=False)
class Flight:
    """Rows of one block in one message: which `(n,)`, and how many steps of each `(n,)`."""

    block: Block
    rows: Ints
    takes: Ints


@dataclass(slots=True)
class Load:
    """What of one model is on its way."""

    rows: int = 0
    size: int = 0


class Draft:
    """A message being filled."""

    def __init__(self, room: Room) -> None:
        self.flights: list[Flight] = []
        self.size = 0
        self._room = room

    def take(self, block: Block, rows: Ints, load: Load) -> int:
        """Put in as many of these idle rows (n,) of `block` as fit, and return how many did.

        `load` grows by them: a client never has more on its way than the server's queue holds. In
        an empty message a chunk that doesn't fit is cut.
        """
        if self.flights and self.flights[0].block.timeout != block.timeout:
            return 0
        size = min(self._room.size - self.size, self._room.queue - load.size)
        if load.rows >= self._room.rows:
            return 0
        # Small pieces would be sent if every byte that becomes free were used at once.
        cut = not self.flights and size * 2 >= self._room.size
        if len(block.lengths) == 1:
            return self._take_one(block, size, load, cut=cut)
        free = Room(self._room.rows - load.rows, size, self._room.chunk, self._room.queue)
        flight = plan(block, rows, free, cut=cut)
        if flight is None:
            return 0
        block.inflight[flight.rows] = True
        self.flights.append(flight)
        steps = int(flight.takes.sum())
        self._count(len(flight.rows), steps * block.roster.model.step_bytes, load)
        return len(flight.rows)

    def _take_one(self, block: Block, room: int, load: Load, *, cut: bool) -> int:
        """Do what `take` does for a session alone, without columns: most blocks are of one."""
        each = block.roster.model.step_bytes
        take = min(int(block.lengths[0]) - int(block.answered[0]), self._room.chunk)
        fitting = (room - ROW_BYTES) // each
        if take > fitting:
            if not cut or fitting < 1:
                return 0
            take = fitting
        block.inflight[0] = True
        takes = ONE_STEP if take == 1 else np.array([take], np.int64)
        self.flights.append(Flight(block, FIRST_ROW, takes))
        self._count(1, take * each, load)
        return 1

    def _count(self, rows: int, size: int, load: Load) -> None:
        size += rows * ROW_BYTES
        self.size += size
        load.rows += rows
        load.size += size


def plan(block: Block, rows: Ints, free: Room, *, cut: bool) -> Flight | None:
    """Return the idle rows (n,) of `block` that fit, or None; `cut` the first if it alone doesn't.

    A pure function: nothing is counted as sent yet.
    """
    if free.rows < 1:
        return None
    each = block.roster.model.step_bytes
    takes = np.minimum(block.lengths[rows] - block.answered[rows], free.chunk)
    fitting = min(len(rows), free.rows)
    if ROW_BYTES * len(rows) + int(takes.sum()) * each > free.size:
        costs = np.cumsum(ROW_BYTES + takes * each)
        fitting = min(int(np.searchsorted(costs, free.size, side="right")), fitting)
    if fitting == 0 and cut:
        takes[0] = (free.size - ROW_BYTES) // each
        fitting = 1 if takes[0] > 0 else 0
    return Flight(block, rows[:fitting], takes[:fitting]) if fitting else None


def too_large(model: ModelInfo, room: Room) -> InvalidInput:
    """Return the error of a step that no message can hold."""
    return InvalidInput(
        f"one step of {model.name!r} takes {model.step_bytes} bytes, but a message holds "
        f"{room.size}; raise max_message_bytes at both ends"
    )


def request(number: int, server_id: int, flights: Sequence[Flight], now: float) -> pb.StreamRequest:
    """Return one message for these flights, all of one model, version and server."""
    roster = flights[0].block.roster
    alone = all(f.rows is FIRST_ROW for f in flights)
    if alone:  # sessions alone: their columns are these rows
        handles = column([f.block.roster.handles for f in flights])
        first_step = column([f.block.roster.applied for f in flights])
    else:
        handles = column([f.block.roster.handles[f.rows] for f in flights])
        first_step = column([f.block.roster.applied[f.rows] for f in flights])
    takes = column([f.takes for f in flights])
    message = pb.StreamRequest()
    step = message.step
    step.id = number
    step.model = roster.model.name
    step.version = roster.model.version
    step.server_id = server_id
    step.timeout_ms = _timeout_ms(flights, now)
    step.handles = handles.astype(wire.HANDLE_DTYPE, copy=False).tobytes()
    step.first_step = first_step.astype(wire.STEP_COUNT_DTYPE).tobytes()
    if roster.keep is not None:
        step.delivered = _delivered(flights, step.first_step)
    if takes[0] != 1 or (len(takes) > 1 and (takes != 1).any()):
        step.lengths = takes.astype(wire.LENGTH_DTYPE).tobytes()
    steps = int(takes.sum())
    for spec in roster.model.inputs:
        tensor = step.inputs.add()
        tensor.name = spec.name
        tensor.dtype = spec.wire_dtype
        tensor.shape.extend((steps, *spec.shape))
        tensor.data = b"".join([_steps(flight, spec.name) for flight in flights])
    return message


def _delivered(flights: Sequence[Flight], first_step: bytes) -> bytes:
    """Return how many answers of each row are held: as many as steps, unless it was put back."""
    if not any(flight.block.replay for flight in flights):
        return first_step
    held = column([flight.block.roster.held(flight.rows) for flight in flights])
    return held.astype(wire.STEP_COUNT_DTYPE).tobytes()


def same_message(block: Block) -> tuple[str, str, float | None, bool]:
    """Return what chunks for one host must have in common to share a message."""
    roster = block.roster
    return roster.model.name, roster.model.version, block.timeout, roster.keep is not None


def tensors(arrays: dict[str, Array]) -> list[tensor_pb2.Tensor]:
    """Return whole arrays as they travel."""
    return [
        tensor_pb2.Tensor(
            name=name,
            dtype=wire.DATA_TYPES[array.dtype.str],
            shape=array.shape,
            data=array.tobytes(),
        )
        for name, array in arrays.items()
    ]


def _steps(flight: Flight, name: str) -> bytes:
    """Return an input's steps of a flight as they travel."""
    block, rows, flat = flight.block, flight.rows, flight.block.inputs[name]
    if len(rows) > 1:
        flat = gather(flat, block.starts[rows] + block.answered[rows], flight.takes)
    elif len(flat) > 1:
        begin = int(block.starts[rows[0]]) + int(block.answered[rows[0]])
        flat = flat[begin : begin + int(flight.takes[0])]
    return flat.tobytes()


def _timeout_ms(flights: Sequence[Flight], now: float) -> int:
    if flights[0].block.timeout is None:  # as with all of a message
        return 0
    deadlines = [f.block.deadline for f in flights if f.block.deadline is not None]
    if not deadlines:
        return 0
    return min(max(1, math.ceil((max(deadlines) - now) * 1000)), 2**32 - 1)
