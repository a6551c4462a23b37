"""Ticks as one run of the graph that loops over time, whatever their shape."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carousel_server.runtime import poolgraph
from carousel_server.runtime.ondevice.devicepool import DevicePool
from carousel_server.runtime.ondevice.exchange import NOT_CAPTURED, Exchange
from carousel_server.runtime.ondevice.layout import Port
from carousel_server.runtime.ondevice.memory import Memory
from carousel_server.spec import ModelSpec

Arrays = Mapping[str, NDArray[np.generic]]

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
        *,
        crossing: bool,
    ) -> None:
        """Make nothing yet; `crossing`: whether the session has nodes elsewhere."""
        self._session, self._spec, self._pool, self._memory = session, spec, pool, memory
        self._crossing = crossing
        self._kept: OrderedDict[tuple[int, int], tuple[Exchange, NDArray[np.int32]]] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes that the blocks of the shapes kept take on the device."""
        return self._nbytes

    def run(
        self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: Arrays
    ) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_]]:
        """Advance the states in `slots` [B] by `lengths` [B] steps; as `Runner.run` says.

        Raises what ONNX Runtime and the device raise: no state has been changed then.
        """
        steps = len(next(iter(inputs.values()))) if self._spec.time_axis else 1
        with self._memory.gate.shared():
            exchange, host_lengths = self._shape(steps, len(slots))
            views = exchange.views[0]
            views[poolgraph.SLOTS][...] = slots
            host_lengths[:] = lengths
            if self._spec.ragged:
                np.less(
                    np.arange(steps)[:, None, None], lengths[:, None], out=views[poolgraph.WITHIN]
                )
            for spec in self._spec.inputs:
                views[spec.name][...] = inputs[spec.name]
            self._memory.start_clock()
            try:
                exchange.queue(exchange.inbox, exchange.outbox)
            finally:
                self._memory.stop_clock()
                self._memory.wait()
        came = exchange.views[1]
        outputs = {spec.name: came[spec.name].copy() for spec in self._spec.outputs}
        return outputs, came[poolgraph.BAD][:, 0].astype(np.bool_)

    def _shape(self, steps: int, rows: int) -> tuple[Exchange, NDArray[np.int32]]:
        made = self._kept.get((steps, rows))
        if made is not None:
            self._kept.move_to_end((steps, rows))
            return made
        lengths = np.ones(rows, np.int32)
        exchange = pool_exchange(
            self._session,
            self._spec,
            self._pool,
            self._memory,
            steps=steps,
            rows=rows,
            lengths=lengths,
            crossing=self._crossing,
        )
        made = self._kept[steps, rows] = (exchange, lengths)
        self._nbytes += exchange.nbytes
        while len(self._kept) > 1 and (len(self._kept) > _MAX_KEPT or self._nbytes > _MAX_BYTES):
            self._nbytes -= self._kept.popitem(last=False)[1][0].nbytes
        return made


def pool_exchange(
    session: ort.InferenceSession,
    spec: ModelSpec,
    pool: DevicePool,
    memory: Memory,
    *,
    steps: int,
    rows: int,
    lengths: NDArray[np.int32] | None = None,
    graph: int = NOT_CAPTURED,
    crossing: bool = False,
) -> Exchange:
    """Return runs of a pool graph over `steps` x `rows`.

    `lengths` [rows] is read on the host at each run; a spec without `sequence_lens` has none.
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
        host_inputs={spec.sequence_lens: lengths}
        if spec.sequence_lens and lengths is not None
        else None,
        graph=graph,
        crossing=crossing,
    )
