"""The network that is measured: an LSTM of two layers, H=128, 16 features, random weights."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from carousel_exporter.conversion import Labels, convert
from carousel_exporter.network import Architecture, RecurrentNetwork
from carousel_exporter.source import Source

NAME = "lstm"
FEATURES, HIDDEN, LAYERS, OUTPUTS = 16, 128, 2, 1
STATE_BYTES = 2 * LAYERS * HIDDEN * 4

Array = NDArray[np.float32]


def write_model(repository: Path, *, hidden: int = HIDDEN, layers: int = LAYERS) -> Path:
    """Write the model into a repository and return its path."""
    torch.manual_seed(0)
    network = RecurrentNetwork(Architecture(FEATURES, hidden, layers, OUTPUTS)).eval()
    path = repository / NAME / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    convert(Source(network), path, Labels(NAME))
    return path


class Bare:
    """The model under ONNX Runtime alone: one thread, bound buffers, no server and no sessions."""

    def __init__(self, path: Path, rows: int, steps: int) -> None:
        """Prepare runs of `steps` steps of `rows` rows."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.session = session
        self.x = np.random.default_rng(0).normal(size=(steps, rows, FEATURES)).astype(np.float32)
        self.binding = session.io_binding()
        self.lengths = np.full(rows, steps, np.int32)
        self._keep: list[object] = []
        for value in session.get_inputs():
            array = {"x": self.x, "sequence_lens": self.lengths}.get(
                value.name, np.zeros((rows, HIDDEN), np.float32)
            )
            bound = ort.OrtValue.ortvalue_from_numpy(array)
            self._keep += [array, bound]
            self.binding.bind_ortvalue_input(value.name, bound)
        for value in session.get_outputs():
            shape = (steps, rows, OUTPUTS) if value.name == "y" else (rows, HIDDEN)
            array = np.zeros(shape, np.float32)
            bound = ort.OrtValue.ortvalue_from_numpy(array)
            self._keep += [array, bound]
            self.binding.bind_ortvalue_output(value.name, bound)

    def seconds(self, *, least: float = 0.3) -> float:
        """Return the median seconds of a run, from runs of at least `least` seconds together."""
        times: list[float] = []
        self.session.run_with_iobinding(self.binding)
        until = time.perf_counter() + least
        while time.perf_counter() < until or len(times) < 5:
            began = time.perf_counter()
            self.session.run_with_iobinding(self.binding)
            times.append(time.perf_counter() - began)
        return float(np.median(times))


def best_ragged(path: Path, lengths: NDArray[np.int64]) -> float:
    """Return the least seconds that bare runs need for ragged rows.

    Tried are one padded batch with `sequence_lens`, and batches of 8, 16 and 32 rows sorted by
    length.
    """
    ordered = np.sort(lengths)
    ways = []
    for size in (len(ordered), 8, 16, 32):
        groups = [ordered[first : first + size] for first in range(0, len(ordered), size)]
        runs = [Bare(path, rows=len(group), steps=int(group.max())) for group in groups]
        for run, group in zip(runs, groups, strict=True):
            run.lengths[:] = group
        ways.append(sum(run.seconds(least=0.1) for run in runs))
    return min(ways)
