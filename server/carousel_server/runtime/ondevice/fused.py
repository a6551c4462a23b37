"""Ticks as one run of the graph that loops over time, whatever their shape."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carousel_server.runtime import poolgraph
from carousel_server.runtime.ondevice.devicepool import DevicePool
from carousel_server.runtime.ondevice.exchange import NOT_CAPTURED, Arrays, Exchange
from carousel_server.runtime.ondevice.lanes import Lanes
from carousel_server.runtime.ondevice.layout import Port
from carousel_server.runtime.ondevice.memory import Memory
from carousel_server.runtime.ondevice.underway import Outcome, UnderWay
from carousel_server.spec import ModelSpec

# Small shapes are many and cheap, large ones are few: both bounds are far from what ticks need.
_MAX_KEPT = 256
_MAX_BYTES = 256 * 1024 * 1024


class Fused:
    """Runs a pool graph over whole pieces; the graph itself writes all states, or none."""

    def __init__(
        self,
        session: ort.InferenceSession,
        spec: ModelSpec,
        pool: DevicePool,
        memory: Memory,
        lanes: Lanes,
        *,
        crossing: bool,
    ) -> None:
        """Make nothing yet; `crossing`: whether the session has nodes elsewhere."""
        self._session, self._spec, self._pool, self._memory = session, spec, pool, memory
        self._lanes, self._crossing = lanes, crossing
        self._kept: OrderedDict[tuple[int, int], Exchange] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes that the blocks of the shapes kept take on the device."""
        return self._nbytes

    def run(self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays) -> Outcome:
        """Advance the states in `slots` [B] by `lengths` [B] steps; as `Runner.run` says.

        Raises what ONNX Runtime and the device raise: no state has been changed then.
        """
        return self.start(slots, lengths, inputs).finish()

    def start(
        self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays
    ) -> UnderWay:
        """Queue such a run."""
        spec = self._spec
        steps = len(next(iter(inputs.values()))) if spec.time_axis else 1
        with self._memory.gate.shared():
            exchange = self._shape(steps, len(slots))

        def fill(_: int, there: Arrays) -> Arrays | None:
            there[poolgraph.SLOTS][...] = slots
            if spec.ragged:
                np.less(
                    np.arange(steps)[:, None, None], lengths[:, None], out=there[poolgraph.WITHIN]
                )
            for tensor in spec.inputs:
                there[tensor.name][...] = inputs[tensor.name]
            return {spec.sequence_lens: lengths.astype(np.int32)} if spec.sequence_lens else None

        def collect(came: Sequence[Arrays]) -> Outcome:
            outputs = {tensor.name: came[0][tensor.name].copy() for tensor in spec.outputs}
            return outputs, came[0][poolgraph.BAD][:, 0].astype(np.bool_)

        return UnderWay(self._lanes, self._lanes.send([exchange], fill), collect)

    def _shape(self, steps: int, rows: int) -> Exchange:
        made = self._kept.get((steps, rows))
        if made is not None:
            self._kept.move_to_end((steps, rows))
            return made
        made = self._kept[steps, rows] = pool_exchange(
            self._session,
            self._spec,
            self._pool,
            self._memory,
            steps=steps,
            rows=rows,
            crossing=self._crossing,
        )
        self._nbytes += made.nbytes
        while len(self._kept) > 1 and (len(self._kept) > _MAX_KEPT or self._nbytes > _MAX_BYTES):
            self._nbytes -= self._kept.popitem(last=False)[1].nbytes
        return made


def pool_exchange(
    session: ort.InferenceSession,
    spec: ModelSpec,
    pool: DevicePool,
    memory: Memory,
    *,
    steps: int,
    rows: int,
    graph: int = NOT_CAPTURED,
    crossing: bool = False,
) -> Exchange:
    """Return runs of a pool graph over `steps` x `rows`.

    Lengths, where the spec has them, are not bound: they are read on the host at each run.
    """
    lead = (steps, rows) if spec.time_axis else (rows,)
    return Exchange(
        session,
        memory,
        inputs=[
            Port(poolgraph.SLOTS, np.dtype(np.int64), (rows,)),
            *([Port(poolgraph.WITHIN, np.dtype(np.bool_), (steps, rows, 1))] * spec.ragged),
            *(Port(t.name, t.dtype, (*lead, *t.shape)) for t in spec.inputs),
        ],
        outputs=[
            *(Port(t.name, t.dtype, (*lead, *t.shape)) for t in spec.outputs),
            Port(poolgraph.BAD, np.dtype(np.bool_), (rows, 1)),
        ],
        held_inputs={poolgraph.pool_input(s): pool.tensors[s.name] for s in spec.states},
        held_outputs={poolgraph.pool_output(s): pool.tensors[s.name] for s in spec.states},
        graph=graph,
        crossing=crossing,
    )
