"""The pool: for every state one tensor on the device, with a row a slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from carousel_server.errors import DeviceError
from carousel_server.runtime.device import Device
from carousel_server.runtime.session import RUNTIME_ERRORS, create_session, first_line
from carousel_server.spec import StateSpec

# Any opset with ScatterND does; this one is read by every ONNX Runtime that we allow.
_OPSET = 17
_IR_VERSION = 8

# Prefixes, so that a state may have any name.
SLOTS = "slots"
POOL = "pool/"
ROWS = "rows/"
OUT = "out/"


class Pool:
    """Rows of state on the device: slot 0 is scratch, slots 1 to `slots` belong to sessions.

    Rows are read and written through two small graphs, so that they go to and from the device
    without the rest of the pool.
    """

    def __init__(self, states: Sequence[StateSpec], slots: int, device: Device) -> None:
        self._states = tuple(states)
        self.tensors = {state.name: allocate(state, slots + 1, device) for state in states}
        read, write = reader_graph(states, slots + 1), writer_graph(states, slots + 1)
        self._reader = create_session(read.SerializeToString(), device, threads=1)
        self._writer = create_session(write.SerializeToString(), device, threads=1)

    def read(self, slots: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """Return the states in `slots` [N], each `[N, *shape]`, on the host."""
        binding = self._reader.io_binding()
        binding.bind_cpu_input(SLOTS, slots)
        for state in self._states:
            binding.bind_ortvalue_input(POOL + state.name, self.tensors[state.name])
            binding.bind_output(ROWS + state.name, "cpu")
        self._reader.run_with_iobinding(binding)
        rows = binding.get_outputs()
        return {state.name: value.numpy() for state, value in zip(self._states, rows, strict=True)}

    def write(self, slots: NDArray[np.int64], rows: Mapping[str, NDArray[np.generic]]) -> None:
        """Put `rows`, each `[N, *shape]`, into `slots` [N]."""
        binding = self._writer.io_binding()
        binding.bind_cpu_input(SLOTS, slots[:, None])
        for state in self._states:
            pool = self.tensors[state.name]
            binding.bind_cpu_input(ROWS + state.name, np.ascontiguousarray(rows[state.name]))
            binding.bind_ortvalue_input(POOL + state.name, pool)
            binding.bind_ortvalue_output(OUT + state.name, pool)
        self._writer.run_with_iobinding(binding)


def allocate(state: StateSpec, rows: int, device: Device) -> ort.OrtValue:
    """Return a tensor `[rows, *shape]` on the device; on the CPU it holds zeros.

    Raises:
        DeviceError: it does not fit.

    """
    shape = (rows, *state.shape)
    try:
        if device.kind == "cpu":
            # Zeros that nobody has touched cost no memory: the kernel gives pages when written.
            return ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, state.dtype))
        return ort.OrtValue.ortvalue_from_shape_and_type(
            list(shape), state.dtype.type, device.kind, device.index
        )
    except RUNTIME_ERRORS as error:
        raise DeviceError(
            f"a pool of {rows} x {state.nbytes} bytes for state {state.name!r} does not fit on "
            f"{device}; lower --slots ({first_line(error)})"
        ) from error


def reader_graph(states: Sequence[StateSpec], rows: int) -> onnx.ModelProto:
    """Return the graph that copies rows of pools: `SLOTS` [N] and `POOL`s to `ROWS` [N, ...]."""
    nodes, inputs, outputs = [], [_value(SLOTS, TensorProto.INT64, ["N"])], []
    for state in states:
        kind = helper.np_dtype_to_tensor_dtype(state.dtype)
        pool, out = POOL + state.name, ROWS + state.name
        nodes.append(helper.make_node("Gather", [pool, SLOTS], [out], axis=0))
        inputs.append(_value(pool, kind, [rows, *state.shape]))
        outputs.append(_value(out, kind, ["N", *state.shape]))
    return _model("read", nodes, inputs, outputs)


def writer_graph(states: Sequence[StateSpec], rows: int) -> onnx.ModelProto:
    """Return the graph that puts `ROWS` [N, ...] into pools at `SLOTS` [N, 1]; `OUT`s are they."""
    nodes, inputs, outputs = [], [_value(SLOTS, TensorProto.INT64, ["N", 1])], []
    for state in states:
        kind = helper.np_dtype_to_tensor_dtype(state.dtype)
        pool, new, out = POOL + state.name, ROWS + state.name, OUT + state.name
        nodes.append(helper.make_node("ScatterND", [pool, SLOTS, new], [out]))
        inputs += [
            _value(pool, kind, [rows, *state.shape]),
            _value(new, kind, ["N", *state.shape]),
        ]
        outputs.append(_value(out, kind, [rows, *state.shape]))
    return _model("write", nodes, inputs, outputs)


_value = helper.make_tensor_value_info


def _model(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    return helper.make_model(
        helper.make_graph(nodes, name, inputs, outputs),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
