"""How fast a smaller model is beside the float32 one: bare runs, in turns, on one thread."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from carousel.v1 import manifest_pb2
from carousel.wire import NUMPY_DTYPES
from carousel_exporter.manifest import TensorStatistics
from carousel_exporter.precision.report import Speed
from carousel_exporter.runner import Arrays, initial_state
from carousel_exporter.samples import random_rows

#: Rows and steps of the runs that are timed.
SHAPES: Final = ((1, 1), (16, 1), (256, 1), (1, 100))
#: Runs of one shape go on for so long, in seconds, and are so many at least.
_SECONDS: Final = 0.5
_LEAST_RUNS: Final = 9
_FATAL: Final = 4


class Bare:
    """A model file in ONNX Runtime on one thread, with the options that the server has."""

    def __init__(self, path: Path, manifest: manifest_pb2.ModelManifest) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._manifest = manifest

    def feeds(self, rows: list[Arrays]) -> Arrays:
        """Return a run's inputs from rows' (T, …), with new states."""
        timed = self._manifest.form == manifest_pb2.MODEL_FORM_SEQUENCE
        feeds = {
            spec.name: np.stack([row[spec.name] for row in rows], axis=1)  # (T, B, …)
            for spec in self._manifest.inputs
        }
        length = len(next(iter(feeds.values())))
        if not timed:
            feeds = {name: array[0] for name, array in feeds.items()}
        if self._manifest.sequence_lens:
            feeds[self._manifest.sequence_lens] = np.full(len(rows), length, np.int32)
        for name, state in initial_state(self._manifest).items():
            feeds[name] = np.repeat(state[None], len(rows), axis=0)
        return feeds

    def seconds(self, feeds: Arrays) -> float:
        """Run once, and return how long it took."""
        start = time.perf_counter()
        self._session.run(None, feeds)
        return time.perf_counter() - start


def measure(
    before: tuple[Path, manifest_pb2.ModelManifest],
    after: tuple[Path, manifest_pb2.ModelManifest],
    statistics: dict[str, TensorStatistics],
    rng: np.random.Generator,
) -> list[Speed]:
    """Time both files in turns, and return medians for each shape that they allow."""
    one, other = Bare(*before), Bare(*after)
    manifest = before[1]
    timed = manifest.form == manifest_pb2.MODEL_FORM_SEQUENCE
    speeds = []
    for rows, steps in SHAPES:
        if (steps > 1 and not timed) or 0 < manifest.max_batch < rows:
            continue
        drawn = random_rows(manifest, statistics, rows=rows, steps=steps, rng=rng)
        pair = [(bare, bare.feeds(drawn), list[float]()) for bare in (one, other)]
        end = time.perf_counter() + _SECONDS
        while time.perf_counter() < end or len(pair[0][2]) < _LEAST_RUNS:
            for bare, feeds, taken in pair:
                taken.append(bare.seconds(feeds))
        medians = [float(np.median(taken[1:])) * 1e6 for _, _, taken in pair]  # the first warms up
        speeds.append(Speed(rows, steps, *medians))
    return speeds


def state_bytes(manifest: manifest_pb2.ModelManifest) -> int:
    """Return how many bytes of state one session holds."""
    sizes = (
        int(np.prod(spec.shape)) * np.dtype(NUMPY_DTYPES[spec.dtype]).itemsize
        for spec in manifest.states
    )
    return sum(sizes)
