"""Who makes the same ticks: Carousel's runtime, bare ONNX Runtime, PyTorch, PyTorch with graphs.

Each takes the inputs from the host and gives the answers there. Bare ONNX Runtime passes the states
through the host as well, as a server without sessions does; the others keep them on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from benchmarks.ondevice.cases import FEATURES, Case
from benchmarks.ondevice.clock import synchronize
from benchmarks.ondevice.models import Torch
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import read_model
from carousel_server.runtime.ondevice.choosing import DeviceOptions
from carousel_server.runtime.ondevice.cuda.cudart import Cudart
from carousel_server.runtime.ondevice.cuda.memory import CudaMemory
from carousel_server.runtime.ondevice.devicemodel import DeviceModel, DeviceRun
from carousel_server.runtime.ondevice.memory import HostMemory, Memory

Tick = Callable[[], object]


def open_memory(device: Device, math: str) -> Memory:
    """Return the device's memory."""
    if device.kind == "cpu":
        return HostMemory(device)
    return CudaMemory(device, math=math, cudart=Cudart())


def open_ours(path: Path, device: Device, *, math: str, slots: int, largest: int) -> DeviceModel:
    """Return the model as the server has it on a device, tuned."""
    # Taken apart, the CPU provider has products of float32 only; there it is a rehearsal anyway.
    options = DeviceOptions(math=math, autotune=True, pool_bytes=0.8, largest=largest)
    memory = open_memory(device, math)
    return DeviceModel(read_model(path), memory=memory, slots=slots, threads=1, options=options)


def ours(model: DeviceModel, case: Case) -> Tick:
    """Return a tick of the model."""
    slots, lengths = np.arange(1, case.rows + 1), np.full(case.rows, case.steps)
    x = inputs(case)
    return lambda: model.run(slots, lengths, {"x": x})


class Overlapped:
    """Ticks of the model that take turns between two halves of its sessions, one always ahead.

    That is what a server is at whose clients send while others' ticks run. Each call begins a tick
    and ends the one before it.
    """

    def __init__(self, model: DeviceModel, case: Case) -> None:
        """Begin nothing yet; the model has slots for twice the rows."""
        self._model, self._x = model, inputs(case)
        self._lengths = np.full(case.rows, case.steps)
        first = np.arange(1, case.rows + 1)
        self._now, self._next = first, first + case.rows
        self._ahead: DeviceRun | None = None

    def tick(self) -> None:
        """Begin a tick, and end the one before it."""
        begun = self._model.start(self._now, self._lengths, {"x": self._x})
        self.finish()
        self._ahead = begun
        self._now, self._next = self._next, self._now

    def finish(self) -> None:
        """End the tick that was begun last."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            ahead.finish()


class Bare:
    """The model under ONNX Runtime alone, its states in numpy arrays."""

    def __init__(self, path: Path, device: Device) -> None:
        """Load it."""
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(str(path), options, providers=device.providers())

    def tick(self, case: Case) -> Tick:
        """Return a tick."""
        feeds: dict[str, NDArray[np.generic]] = {
            value.name: np.zeros((case.rows, case.network.hidden), np.float32)
            for value in self._session.get_inputs()
        }
        feeds |= {"x": inputs(case), "lengths": np.full(case.rows, case.steps, np.int32)}
        names = [value.name for value in self._session.get_outputs()]

        def tick() -> None:
            for name, value in zip(names, self._session.run(names, feeds), strict=True):
                if name != "y":
                    feeds[name.removesuffix("_out")] = value

        return tick


class InTorch:
    """The network in PyTorch on a device, with states that stay there."""

    def __init__(self, network: Torch, device: str, case: Case) -> None:
        self._device = device
        self._network = network.to(device).eval()
        shape = (case.network.layers, case.rows, case.network.hidden)
        self._h = torch.zeros(shape, device=device)
        self._c = torch.zeros(shape, device=device)
        self._x = torch.from_numpy(inputs(case))
        self._y = torch.empty(case.steps, case.rows, 1)
        if device != "cpu":
            self._x, self._y = self._x.pin_memory(), self._y.pin_memory()
        self._there = torch.empty_like(self._x, device=device)
        self._answer = torch.empty_like(self._y, device=device)

    @torch.inference_mode()
    def plainly(self) -> None:
        """Make a tick."""
        self._there.copy_(self._x, non_blocking=True)
        self._step()
        self._y.copy_(self._answer, non_blocking=True)
        synchronize(self._device)

    @torch.inference_mode()
    def captured(self) -> Tick:
        """Return a tick that replays a CUDA graph."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()

        def tick() -> None:
            self._there.copy_(self._x, non_blocking=True)
            graph.replay()
            self._y.copy_(self._answer, non_blocking=True)
            torch.cuda.synchronize()

        return tick

    def _step(self) -> None:
        y, h, c = self._network(self._there, self._h, self._c)
        self._answer.copy_(y)
        self._h.copy_(h)
        self._c.copy_(c)


def in_torch(network: Torch, device: str, case: Case) -> dict[str, Tick]:
    """Return PyTorch's ticks, by name; what it can't do on a device is left out."""
    ticks: dict[str, Tick] = {"torch": InTorch(network, device, case).plainly}
    if device != "cpu":
        # cuDNN's LSTM can't be captured in every version; the table has a gap then.
        with suppress(RuntimeError):
            ticks["torch_graph"] = InTorch(network, device, case).captured()
    return ticks


def inputs(case: Case) -> NDArray[np.float32]:
    """Return random inputs, (T, B, F)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(case.steps, case.rows, FEATURES)).astype(np.float32)
