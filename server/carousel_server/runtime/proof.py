"""Proves that steps in buckets are the model: the same answers and states as its plain runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from carousel_server.runtime.devicepool import DevicePool
from carousel_server.runtime.fused import Fused
from carousel_server.runtime.steps import Steps
from carousel_server.spec import ModelSpec, TensorSpec

Arrays = Mapping[str, NDArray[np.generic]]
Outcome = tuple[dict[str, NDArray[np.generic]], NDArray[np.bool_]]
Run = Callable[[NDArray[np.int64], NDArray[np.int64], Arrays], Outcome]

#: Largest difference, relative to the larger of 1 and the value, that is rounding: well above the
#: unit roundoff of the products' numbers (2^-24, 2^-11, 2^-11, 2^-8), for they are summed up.
TOLERANCE = {"float32": 1e-4, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 1.5e-1}

# A second tick reads what the first one wrote, and has other inputs: a captured graph that has
# kept a value, or the address of one, gives itself away.
_TICKS = 2


class Trial:
    """Runs of a model with inputs that it may have."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def on_scratch(self, run: Run, rows: int, steps: int) -> None:
        """Run so many rows and steps on slot 0, which is nobody's."""
        lead = (steps, rows) if self._spec.time_axis else (rows,)
        inputs = {
            s.name: np.full((*lead, *s.shape), s.harmless, s.dtype) for s in self._spec.inputs
        }
        run(np.zeros(rows, np.int64), np.full(rows, steps), inputs)

    def inputs(self, rng: np.random.Generator, rows: int) -> dict[str, NDArray[np.generic]]:
        """Return random inputs of one step."""
        lead = (1, rows) if self._spec.time_axis else (rows,)
        return {s.name: _random(rng, s, (*lead, *s.shape)) for s in self._spec.inputs}


def prove(steps: Steps, fused: Fused, pool: DevicePool, spec: ModelSpec) -> float:
    """Return the largest difference between single steps and plain runs, over all buckets.

    Uses the pool's first slots, which are nobody's before a model is served, and leaves zeros.

    Raises what runs raise, and RuntimeError where one way has a row that the other hasn't.
    """
    worst = 0.0
    trial = Trial(spec)
    for size in steps.sizes:
        rows = min(size, pool.slots)
        taken = np.arange(1, rows + 1)
        zeros = {s.name: np.zeros((rows, *s.shape), s.dtype) for s in spec.states}
        seen = []
        for run in (steps.run, fused.run):
            pool.write(taken, zeros)
            rng = np.random.default_rng(size)
            came = [
                run(taken, np.ones(rows, np.int64), trial.inputs(rng, rows)) for _ in range(_TICKS)
            ]
            seen.append((came, pool.read(taken)))
        pool.write(taken, zeros)
        worst = max(worst, _difference(*seen, rows_axis=int(spec.time_axis)))
    return worst


def _difference(
    one: tuple[list[Outcome], Arrays], other: tuple[list[Outcome], Arrays], *, rows_axis: int
) -> float:
    """Return the largest difference between rows that were good at every tick."""
    worst = 0.0
    good = np.ones(len(one[0][0][1]), np.bool_)
    for (outputs, bad), (expected, expected_bad) in zip(one[0], other[0], strict=True):
        if (bad != expected_bad).any():
            raise RuntimeError("a value is finite one way, and not the other")
        good &= ~bad
        rows = np.flatnonzero(good)
        for name, value in outputs.items():
            pair = (np.take(each, rows, axis=rows_axis) for each in (value, expected[name]))
            worst = max(worst, _relative(*pair))
    for name, value in one[1].items():
        worst = max(worst, _relative(value[good], other[1][name][good]))
    return worst


def _relative(value: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    if not value.size:
        return 0.0
    wanted = expected.astype(np.float64)
    return float((np.abs(value.astype(np.float64) - wanted) / np.maximum(1, np.abs(wanted))).max())


def _random(
    rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]
) -> NDArray[np.generic]:
    if spec.dtype.kind == "f":
        return rng.normal(size=shape).astype(spec.dtype)
    if spec.dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(spec.dtype)
    low = spec.harmless
    high = low + 1 if spec.maximum is None else min(spec.maximum, low + 100)
    return rng.integers(low, high, shape, endpoint=True).astype(spec.dtype)
