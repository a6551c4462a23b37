"""What applications sent and what they were answered, beside what ONNX Runtime alone answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort

from carousel_server.runtime.manifest import read_model

TOLERANCE = 1e-5


@dataclass
class Track:
    """One session, as its application saw it: inputs `[T, F]` and answers `[T, O]` so far."""

    name: str
    sent: list[np.ndarray] = field(default_factory=list, repr=False)
    answered: list[np.ndarray] = field(default_factory=list, repr=False)
    steps: int = 0
    last: float = field(default_factory=time.monotonic)  # when the newest answer came
    longest_wait: float = 0.0  # seconds between two answers

    def take(self, x: np.ndarray, y: np.ndarray) -> None:
        """Note the answers `[T, O]` to inputs `[T, F]`."""
        assert len(y) == len(x), f"{self.name}: {len(x)} steps were sent, {len(y)} answered"
        self.sent.append(x)
        self.answered.append(y)
        self.steps += len(x)
        now = time.monotonic()
        self.longest_wait = max(self.longest_wait, now - self.last)
        self.last = now


def compare(tracks: list[Track], path: Path) -> int:
    """Run all tracks again under ONNX Runtime alone, uninterrupted; return the steps compared.

    Raises AssertionError with the first difference.
    """
    tracks = [track for track in tracks if track.steps]
    xs = [np.concatenate(track.sent) for track in tracks]
    expected = _uninterrupted(path, xs)
    for track, want in zip(tracks, expected, strict=True):
        got = np.concatenate(track.answered)
        assert got.shape == want.shape, f"{track.name}: answers {got.shape}, expected {want.shape}"
        wrong = ~(np.abs(got - want) <= TOLERANCE * np.maximum(1, np.abs(want))).all(axis=1)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise AssertionError(
                f"{track.name}: {int(wrong.sum())} of {len(want)} answers are wrong, the first at "
                f"step {first}: {got[first]} instead of {want[first]}; {_where(got, want, first)}"
            )
    return sum(map(len, xs))


def _where(got: np.ndarray, want: np.ndarray, first: int) -> str:
    """Return what a wrong answer looks like: one of another step, or none at all."""
    near = slice(max(first - 2000, 0), first + 2000)
    found = np.flatnonzero(np.abs(want[near] - got[first]).max(axis=1) < 1e-6)
    steps = (found + near.start).tolist()
    return f"it is the answer of step {steps}" if steps else "it is no other step's either"


def _uninterrupted(path: Path, xs: list[np.ndarray]) -> list[np.ndarray]:
    """Return the answers to each session's inputs, from the initial state on, all in one run."""
    spec = read_model(path).spec
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    lengths = np.array([len(x) for x in xs], np.int32)
    padded = np.zeros((lengths.max(), len(xs), *xs[0].shape[1:]), np.float32)  # (T, B, F)
    for row, x in enumerate(xs):
        padded[: len(x), row] = x
    states = {s.name: np.zeros((len(xs), *s.shape), s.dtype) for s in spec.states}
    (y,) = session.run(["y"], {"x": padded, "sequence_lens": lengths, **states})
    return [y[:length, row] for row, length in enumerate(lengths)]
