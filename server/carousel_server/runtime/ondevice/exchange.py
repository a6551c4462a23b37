"""A run of one shape: its inputs in one block, its outputs in another, states where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from carousel_server.runtime.ondevice.layout import Layout, Port
from carousel_server.runtime.ondevice.memory import Bytes, Memory

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

    What goes in lies in one block, and what comes out in another, so that a run costs one copy
    each way, however many tensors it has. `held` tensors stay on the device between runs.
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
        host_inputs: Mapping[str, NDArray[np.generic]] | None = None,
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
            host_inputs: arrays that the graph reads on the host, by the input's name.
            graph: the number of the captured graph; each number has its own exchange.
            crossing: whether nodes elsewhere than on the device may read its inputs.

        """
        self.inputs, self.outputs = Layout.of(inputs), Layout.of(outputs)
        self._session, self._memory = session, memory
        self._in = memory.block(self.inputs.nbytes)
        self._out = memory.block(self.outputs.nbytes)
        self._inbox: Bytes | None = None
        self._outbox: Bytes | None = None
        self._views: tuple[Arrays, Arrays] | None = None
        self._binding = session.io_binding()
        self._options = ort.RunOptions()
        self._options.add_run_config_entry(_NO_WAIT, "1")
        self._options.add_run_config_entry(_GRAPH, str(graph))
        self._held_inputs, self._held_outputs = dict(held_inputs), dict(held_outputs)
        self._host_inputs, self._crossing = dict(host_inputs or {}), crossing
        self._bind_inputs()
        self._bind_outputs()

    @property
    def nbytes(self) -> int:
        """Bytes that the blocks take on the device."""
        return self._in.nbytes + self._out.nbytes

    @property
    def inbox(self) -> Bytes:
        """Staging for one run's inputs; what it holds is what was put there last."""
        if self._inbox is None:
            self._inbox = self._memory.staging(self.inputs.nbytes)
        return self._inbox

    @property
    def outbox(self) -> Bytes:
        """Staging for one run's outputs."""
        if self._outbox is None:
            self._outbox = self._memory.staging(self.outputs.nbytes)
        return self._outbox

    @property
    def views(self) -> tuple[Arrays, Arrays]:
        """The tensors in `inbox` and `outbox`, by name."""
        if self._views is None:
            self._views = (self.inputs.views(self.inbox), self.outputs.views(self.outbox))
        return self._views

    def queue(self, staged_in: Bytes, staged_out: Bytes | None) -> None:
        """Queue a copy in, a run, and a copy out; None: what came out stays on the device.

        Both are as long as the layouts say, and belong to the exchange until all is done.
        """
        self._memory.upload(staged_in, self._in)
        # What is read elsewhere than where it is, ONNX Runtime copies when it is bound, and not
        # when it runs.
        if self._crossing:
            self._memory.wait()
            self._bind_inputs()
        else:
            self._bind_host_inputs()
        self._session.run_with_iobinding(self._binding, self._options)
        if staged_out is not None:
            self.queue_download(staged_out)

    def queue_download(self, staged_out: Bytes) -> None:
        """Queue a copy of what the last run left on the device."""
        self._memory.download(self._out, staged_out)

    def capture(self, staged_in: Bytes) -> None:
        """Run as often as a capture takes, with inputs that speak of scratch alone."""
        with self._memory.gate.alone():
            for _ in range(_RUNS_TO_CAPTURE):
                self.queue(staged_in, None)
            self._memory.wait()

    def _bind_inputs(self) -> None:
        device = self._memory.device
        for port, offset in zip(self.inputs.ports, self.inputs.offsets, strict=True):
            address, kind = self._in.address + offset, port.dtype.type
            self._binding.bind_input(
                port.name, device.kind, device.index, kind, port.shape, address
            )
        for name, value in self._held_inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._bind_host_inputs()

    def _bind_host_inputs(self) -> None:
        for name, array in self._host_inputs.items():
            self._binding.bind_cpu_input(name, array)

    def _bind_outputs(self) -> None:
        device = self._memory.device
        for port, offset in zip(self.outputs.ports, self.outputs.offsets, strict=True):
            address, kind = self._out.address + offset, port.dtype.type
            self._binding.bind_output(
                port.name, device.kind, device.index, kind, port.shape, address
            )
        for name, value in self._held_outputs.items():
            self._binding.bind_ortvalue_output(name, value)
