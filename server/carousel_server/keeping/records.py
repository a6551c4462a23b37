"""Between the engine's columns of states and the store's records."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.checkpoints import Gathered
from carousel_server.engine.marks import Mark
from carousel_server.spec import ModelSpec, StateSpec
from carousel_server.store.interface import Checkpoint, Header, Record, Saves

Arrays = dict[str, NDArray[np.generic]]


class Recorder:
    """Writes and reads records of one version of one model."""

    def __init__(self, model: str, version: str, sha256: str, spec: ModelSpec) -> None:
        self.states = spec.states
        self._fields = (model, version, sha256, schema_of(spec.states))

    def header(self, opened: float, *, initial: bool) -> Header:
        """Return the header of a session that was opened then, in seconds since the epoch."""
        return Header(*self._fields, opened=opened, initial=initial)

    def checkpoints(self, gathered: Gathered) -> list[Checkpoint]:
        """Return the states of sessions as they are stored."""
        count = len(gathered.ids)
        # One session's states end to end in each row, whatever their dtypes: (N, bytes).
        parts = [
            np.ascontiguousarray(gathered.states[state.name]).reshape(count, -1).view(np.uint8)
            for state in self.states
        ]
        rows = np.concatenate(parts, axis=1)
        size, data = rows.shape[1], rows.tobytes()
        return [
            Checkpoint(step, data[size * row : size * (row + 1)])
            for row, step in enumerate(gathered.steps.tolist())
        ]

    def saves(self, gathered: Gathered, tokens: Sequence[int]) -> Saves:
        """Return what the store is to write, with these tokens."""
        return Saves(
            ids=gathered.ids,
            headers=[
                self.header(opened, initial=initial)
                for opened, initial in zip(
                    gathered.opened.tolist(), gathered.initial.tolist(), strict=True
                )
            ],
            tokens=tokens,
            delivered=gathered.delivered.tolist(),
            checkpoints=self.checkpoints(gathered),
            marks=[gathered.mark] * len(gathered.ids),
        )

    def difference(self, header: Header) -> str:
        """Return why sessions with that header can't go on here; nothing where they can."""
        return schema_difference(header.schema, self.states)

    def mark(self, header: Header, checkpoint: Checkpoint) -> Mark:
        """Return a stored checkpoint as a place that a session can be put to.

        States that were float32 may have been kept as float16, or the other way round: they are
        cast to what this model has.
        """
        states: Arrays = {}
        begin = 0
        for name, dtype, shape in json.loads(header.schema):
            count = int(np.prod(shape, dtype=np.int64))
            values = np.frombuffer(checkpoint.data, dtype, count, begin).reshape(shape)
            begin += values.nbytes
            states[name] = values
        with np.errstate(over="ignore"):  # it is a numeric fault of the next step
            fitting = {s.name: states[s.name].astype(s.dtype) for s in self.states}
        return Mark(checkpoint.step, fitting)


def schema_of(states: Sequence[StateSpec]) -> str:
    """Return the schema of states, as it stands in headers."""
    return json.dumps([[state.name, state.dtype.str, list(state.shape)] for state in states])


def schema_difference(schema: str, states: Sequence[StateSpec]) -> str:
    """Return how a schema differs from a model's states, in words; nothing where it fits.

    Names and shapes must be equal. Floating-point states may differ in width.
    """
    stored = {name: (np.dtype(dtype), tuple(shape)) for name, dtype, shape in json.loads(schema)}
    if sorted(stored) != sorted(state.name for state in states):
        return f"states: {sorted(stored)} were saved, {[s.name for s in states]} are the model's"
    for state in states:
        dtype, shape = stored[state.name]
        saved, own = f"shape {list(shape)}", f"shape {list(state.shape)}"
        if shape == state.shape:
            if dtype == state.dtype or dtype.kind == state.dtype.kind == "f":
                continue
            saved, own = dtype.name, state.dtype.name
        return f"state {state.name!r}: {saved} was saved, {own} is the model's"
    return ""


def place_to_go_on(record: Record, delivered: int | None) -> Checkpoint | None:
    """Return where a session goes on whose client holds so many answers; None: at its beginning.

    It is the newest checkpoint at or before `delivered`; without that, the newest.
    """
    fitting = [
        checkpoint
        for checkpoint in record.checkpoints
        if delivered is None or checkpoint.step <= delivered
    ]
    return max(fitting, key=lambda checkpoint: checkpoint.step, default=None)
