"""How far a smaller model is off the float32 one, over long streams of one's own data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from carousel.v1.manifest_pb2 import ModelManifest
from carousel.wire import NUMPY_DTYPES
from carousel_exporter.data import read_series
from carousel_exporter.errors import SettingsError
from carousel_exporter.manifest import TensorStatistics
from carousel_exporter.precision.report import OutputError
from carousel_exporter.runner import Arrays, Runner
from carousel_exporter.samples import random_rows, real_rows
from carousel_exporter.wording import steps as worded

#: Random streams: how many, and how long.
ROWS: Final = 8
STEPS: Final = 1000
#: The most steps of a file that are run.
_MOST: Final = 20_000
#: Steps a run: longer ones only take memory.
_CHUNK: Final = 250
_QUARTERS: Final = 4


def streams(
    manifest: ModelManifest,
    statistics: dict[str, TensorStatistics],
    data: Path | None,
    samples: Arrays,
    rng: np.random.Generator,
) -> tuple[list[Arrays], str]:
    """Return sessions' inputs, (T, …) each, and what they are in words.

    A CSV file, or `samples` (N, …) of every input, is one stream from its first row on. Raises
    SettingsError, DataError.
    """
    if samples:
        return [_checked(manifest, samples)], f"--samples, {worded(_length(samples))} in one stream"
    if data is None:
        told = f"random input, {ROWS} streams of {worded(STEPS)}: no --data was given"
        return random_rows(manifest, statistics, rows=ROWS, steps=STEPS, rng=rng), told
    real_rows(data, manifest, rows=1, steps=_QUARTERS, rng=rng)  # says what is wrong with it
    series = read_series(data, [name for spec in manifest.inputs for name in spec.columns])
    values = {
        spec.name: series.select(spec.columns)[:_MOST].astype(NUMPY_DTYPES[spec.dtype])
        for spec in manifest.inputs
    }
    length = len(next(iter(values.values())))
    return [values], f"{data}, one stream of {worded(length)}"


def _checked(manifest: ModelManifest, samples: Arrays) -> Arrays:
    """Return samples in the inputs' own types. Raises SettingsError where they don't fit."""
    wanted = {spec.name: spec for spec in manifest.inputs}
    if set(samples) != set(wanted):
        raise SettingsError(
            f"--samples must give every input, {', '.join(sorted(wanted))}, not "
            f"{', '.join(sorted(samples))}."
        )
    for name, array in samples.items():
        shape = list(wanted[name].shape)
        if list(array.shape[1:]) != shape or len(array) < _QUARTERS:
            raise SettingsError(
                f"--samples of {name!r} must have the shape [steps, {', '.join(map(str, shape))}], "
                f"{_QUARTERS} steps at least, not {list(array.shape)}."
            )
    length = min(_MOST, _length(samples))
    return {n: a[:length].astype(NUMPY_DTYPES[wanted[n].dtype]) for n, a in samples.items()}


def _length(samples: Arrays) -> int:
    return min(len(array) for array in samples.values())


def compare(before: Runner, after: Runner, sessions: Sequence[Arrays]) -> list[OutputError]:
    """Run streams through both models, states carried along, and return each output's error."""
    reference, found = (_answers(runner, sessions) for runner in (before, after))
    return [_error(name, reference[name], found[name]) for name in before.outputs]


def _answers(runner: Runner, sessions: Sequence[Arrays]) -> Arrays:
    """Return all answers, (T, rows, …)."""
    states = [runner.new_state() for _ in sessions]
    length = len(next(iter(sessions[0].values())))
    parts: list[Arrays] = []
    for start in range(0, length, _CHUNK):
        chunks = [{n: a[start : start + _CHUNK] for n, a in s.items()} for s in sessions]
        answers, states = runner.advance(chunks, states)
        parts.append({n: np.stack([a[n] for a in answers], axis=1) for n in runner.outputs})
    return {name: np.concatenate([part[name] for part in parts]) for name in runner.outputs}


def _error(name: str, reference: np.ndarray, found: np.ndarray) -> OutputError:
    """Compare answers (T, rows, …)."""
    a, b = reference.astype(np.float64), found.astype(np.float64)
    off = np.abs(a - b)
    if not np.isfinite(off).all():
        off = np.where(np.isfinite(off), off, np.inf)
    spread = float(a.std(axis=(0, 1)).mean()) if a.ndim > 2 else float(a.std())
    floor = max(spread, float(np.finfo(np.float32).tiny))

    def rms(part: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square(part))))

    quarters = [part for part in np.array_split(off, _QUARTERS) if part.size]
    return OutputError(
        output=name,
        rms=rms(off),
        largest=float(off.max()),
        spread=spread,
        share=rms(off) / floor,
        parts=tuple(rms(part) / floor for part in quarters),
    )
