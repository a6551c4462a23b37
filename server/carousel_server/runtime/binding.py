"""Buffers that ONNX Runtime reads from and writes to, allocated and bound once a shape."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carousel_server.runtime import poolgraph
from carousel_server.runtime.pool import Pool
from carousel_server.spec import ModelSpec, TensorSpec

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Arrays = Mapping[str, NDArray[np.generic]]

# Small shapes are many and cheap, large ones are few: both bounds are far from what ticks need.
_MAX_BINDINGS = 512
_MAX_BYTES = 256 * 1024 * 1024


class Binding:
    """Inputs and outputs of runs of `steps` x `rows`, bound to buffers of its own."""

    def __init__(
        self, session: ort.InferenceSession, spec: ModelSpec, pool: Pool, steps: int, rows: int
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._kept: list[ort.OrtValue] = []
        self.nbytes = 0
        lead = (steps, rows) if spec.time_axis else (rows,)
        self._slots = self._input(poolgraph.SLOTS, np.zeros(rows, np.int64))
        self._lengths = self._within = None
        if spec.sequence_lens:
            self._lengths = self._input(spec.sequence_lens, np.zeros(rows, np.int32))
            # All of a single step's rows are within their lengths, once and for all.
            self._within = self._input(poolgraph.WITHIN, np.ones((steps, rows, 1), np.bool_))
        self._time = np.arange(steps)[:, None]  # (T, 1)
        self._inputs = {t.name: self._input(t.name, _buffer(t, lead)) for t in spec.inputs}
        self._outputs = {t.name: self._output(t.name, _buffer(t, lead)) for t in spec.outputs}
        self._bad = self._output(poolgraph.BAD, np.zeros((rows, 1), np.bool_))
        for state in spec.states:
            tensor = pool.tensors[state.name]
            self._binding.bind_ortvalue_input(poolgraph.pool_input(state), tensor)
            self._binding.bind_ortvalue_output(poolgraph.pool_output(state), tensor)

    def run(
        self, slots: NDArray[np.int64], lengths: NDArray[np.int64], inputs: _Arrays
    ) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_]]:
        """Copy the inputs in, run, and return copies of the outputs and of `bad` [rows]."""
        self._slots[:] = slots
        if self._lengths is not None:
            self._lengths[:] = lengths
        if self._within is not None and len(self._time) > 1:
            np.less(self._time, lengths, out=self._within[:, :, 0])
        for name, buffer in self._inputs.items():
            buffer[...] = inputs[name]
        self._session.run_with_iobinding(self._binding)
        outputs = {name: buffer.copy() for name, buffer in self._outputs.items()}
        return outputs, self._bad[:, 0].copy()

    def _input(self, name: str, buffer: NDArray[_Scalar]) -> NDArray[_Scalar]:
        self._binding.bind_ortvalue_input(name, self._wrap(buffer))
        return buffer

    def _output(self, name: str, buffer: NDArray[_Scalar]) -> NDArray[_Scalar]:
        self._binding.bind_ortvalue_output(name, self._wrap(buffer))
        return buffer

    def _wrap(self, buffer: NDArray[_Scalar]) -> ort.OrtValue:
        """Return an OrtValue over the buffer's own memory; it must live as long as the binding."""
        value = ort.OrtValue.ortvalue_from_numpy(buffer)
        self._kept.append(value)
        self.nbytes += buffer.nbytes
        return value


class Bindings:
    """The bindings of the shapes that ran last."""

    def __init__(self, session: ort.InferenceSession, spec: ModelSpec, pool: Pool) -> None:
        self._session = session
        self._spec = spec
        self._pool = pool
        self._kept: OrderedDict[tuple[int, int], Binding] = OrderedDict()
        self._nbytes = 0

    def clear(self) -> None:
        """Forget all of them."""
        self._kept.clear()
        self._nbytes = 0

    def get(self, steps: int, rows: int) -> Binding:
        """Return the binding of a shape, made when it is first asked for."""
        shape = (steps, rows)
        binding = self._kept.get(shape)
        if binding is None:
            binding = Binding(self._session, self._spec, self._pool, steps, rows)
            self._kept[shape] = binding
            self._nbytes += binding.nbytes
            while len(self._kept) > 1 and (
                len(self._kept) > _MAX_BINDINGS or self._nbytes > _MAX_BYTES
            ):
                self._nbytes -= self._kept.popitem(last=False)[1].nbytes
        else:
            self._kept.move_to_end(shape)
        return binding


def _buffer(spec: TensorSpec, lead: tuple[int, ...]) -> NDArray[np.generic]:
    return np.zeros((*lead, *spec.shape), spec.dtype)
