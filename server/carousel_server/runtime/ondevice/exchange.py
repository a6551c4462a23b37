"""A run of one shape: its inputs in one block, its outputs in another, states where they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carousel_server.runtime.ondevice.layout import Layout, Port
from carousel_server.runtime.ondevice.memory import Block, Memory, Stream

Arrays = Mapping[str, NDArray[np.generic]]

#: Not to end a run by waiting for the device: copies and further runs are queued behind it.
_NO_WAIT = "disable_synchronize_execution_providers"
#: The number of the captured graph that a run belongs to; `NOT_CAPTURED`: to none.
_GRAPH = "gpu_graph_id"
NOT_CAPTURED = -1

#: ONNX Runtime runs a graph twice to allocate what it needs, and captures on the third run.
_RUNS_TO_CAPTURE = 3


class Exchange:
    """Inputs and outputs of runs of one session, at fixed addresses on the device.

    What goes in lies in one block, `there`, and what comes out in another, `back`, so that a run
    costs one copy each way, however many tensors it has. `held` tensors stay on the device between
    runs.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        memory: Memory,
        *,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        held_inputs: Mapping[str, ort.OrtValue],
        held_outputs: Mapping[str, ort.OrtValue],
        graph: int = NOT_CAPTURED,
        crossing: bool = False,
    ) -> None:
        """Allocate the blocks and bind them.

        Args:
            session: what to run.
            memory: where its tensors are.
            inputs: what is packed into the block that goes in.
            outputs: what is packed into the block that comes out.
            held_inputs: tensors that are there already, by the input's name.
            held_outputs: tensors to write to, by the output's name.
            graph: the number of the captured graph; each number has its own exchange.
            crossing: whether nodes elsewhere than on the device may read its inputs.

        """
        self.inputs, self.outputs = Layout.of(inputs), Layout.of(outputs)
        self._session, self._memory = session, memory
        self.there: Block = memory.block(self.inputs.nbytes)
        self.back: Block = memory.block(self.outputs.nbytes)
        self._binding = session.io_binding()
        self._options = ort.RunOptions()
        self._options.add_run_config_entry(_NO_WAIT, "1")
        self._options.add_run_config_entry(_GRAPH, str(graph))
        self._held_inputs, self._held_outputs = dict(held_inputs), dict(held_outputs)
        self._crossing = crossing
        self._on_host: Arrays = {}
        self._bind_inputs()
        self._bind_outputs()

    @property
    def nbytes(self) -> int:
        """Bytes that the blocks take on the device."""
        return self.there.nbytes + self.back.nbytes

    def launch(self, on_host: Arrays | None = None) -> None:
        """Queue a run of what is in `there` by then; what comes out is in `back`.

        `on_host` are inputs that the graph reads on the host; they are nobody else's from now on.
        """

        def run() -> None:
            # What is read elsewhere than where it is, ONNX Runtime copies when it is bound, and
            # not when it runs.
            if self._crossing:
                self._memory.wait_for_all()
                self._bind_inputs()
            self._bind_on_host(on_host or {})
            self._session.run_with_iobinding(self._binding, self._options)

        self._memory.launch(run)

    def capture(self, fill: Callable[[Arrays], None]) -> None:
        """Run as often as a capture takes, with inputs that speak of scratch alone."""
        with self._memory.gate.alone():
            staged = self._memory.staging(self.inputs.nbytes)
            fill(self.inputs.views(staged))
            self._memory.wait_for_all()
            self._memory.upload(staged, self.there, Stream.COMPUTE)
            try:
                for _ in range(_RUNS_TO_CAPTURE):
                    self.launch()
            finally:
                self._memory.wait_for_all()  # what is staged is freed now

    def _bind_inputs(self) -> None:
        device = self._memory.device
        for port, offset in zip(self.inputs.ports, self.inputs.offsets, strict=True):
            address, kind = self.there.address + offset, port.dtype.type
            self._binding.bind_input(
                port.name, device.kind, device.index, kind, port.shape, address
            )
        for name, value in self._held_inputs.items():
            self._binding.bind_ortvalue_input(name, value)

    def _bind_on_host(self, arrays: Arrays) -> None:
        self._on_host = arrays  # the binding may know their addresses alone
        # A node on the device may read them too: binding copies them there.
        for name, array in arrays.items():
            self._binding.bind_cpu_input(name, array)

    def _bind_outputs(self) -> None:
        device = self._memory.device
        for port, offset in zip(self.outputs.ports, self.outputs.offsets, strict=True):
            address, kind = self.back.address + offset, port.dtype.type
            self._binding.bind_output(
                port.name, device.kind, device.index, kind, port.shape, address
            )
        for name, value in self._held_outputs.items():
            self._binding.bind_ortvalue_output(name, value)
