"""Proves that what a device makes of a model is the model, beside the file's graph on the CPU.

Kernels of providers differ: cuDNN's GRU, say, knows only one of the two that ONNX has. So whatever
is to run, in whichever way, is compared on random inputs before it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import ModelFile
from carousel_server.runtime.ondevice.devicepool import DevicePool
from carousel_server.runtime.ondevice.exchange import Arrays
from carousel_server.runtime.ondevice.underway import Outcome
from carousel_server.runtime.session import create_session
from carousel_server.spec import ModelSpec, TensorSpec

Run = Callable[[NDArray[np.int64], NDArray[np.int64], Arrays], Outcome]

#: Largest difference, relative to the larger of 1 and the value, that is rounding: well above the
#: unit roundoff of the products' numbers (2^-24, 2^-11, 2^-11, 2^-8), for they are summed up.
TOLERANCE = {"float32": 1e-4, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 1.5e-1}

# A second tick reads what the first one wrote, and has other inputs: a captured graph that has
# kept a value, or the address of one, gives itself away.
_TICKS = 2
# Rows of a run that are compared: all are alike, and the CPU takes its time for large networks.
_COMPARED = 8


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

    def inputs(
        self, rng: np.random.Generator, steps: int, rows: int
    ) -> dict[str, NDArray[np.generic]]:
        """Return random inputs, `[T, B, ...]` or `[B, ...]`."""
        lead = (steps, rows) if self._spec.time_axis else (rows,)
        return {s.name: _random(rng, s, (*lead, *s.shape)) for s in self._spec.inputs}


class Reference:
    """The model on the CPU, a step at a time."""

    def __init__(self, file: ModelFile) -> None:
        """Load the file's own graph."""
        self._spec = file.spec
        graph = file.graph.SerializeToString()
        self._session = create_session(graph, Device("cpu"), threads=1)
        self._names = [*(t.name for t in file.spec.outputs), *(s.output for s in file.spec.states)]

    def step(self, states: Arrays, inputs: Arrays) -> tuple[Arrays, Arrays]:
        """Return outputs and new states of `[B, ...]`, after one step of inputs `[B, ...]`."""
        timed, spec = self._spec.time_axis, self._spec
        feeds = {name: value[None] if timed else value for name, value in inputs.items()}
        feeds |= states
        if spec.sequence_lens:
            feeds[spec.sequence_lens] = np.ones(len(next(iter(states.values()))), np.int32)
        came = dict(zip(self._names, self._session.run(self._names, feeds), strict=True))
        outputs = {t.name: came[t.name][0] if timed else came[t.name] for t in spec.outputs}
        return outputs, {s.name: came[s.output] for s in spec.states}


class Prover:
    """Compares runs with the reference; uses a pool's slots while they are nobody's."""

    def __init__(self, file: ModelFile, pool: DevicePool) -> None:
        self._spec, self._pool = file.spec, pool
        self._reference = Reference(file)
        self._trial = Trial(file.spec)

    def prove(self, run: Run, shapes: Sequence[tuple[int, int]]) -> float:
        """Return the largest difference over runs of some shapes, (rows, steps).

        Rows are ragged where the model's may be. The slots hold zeros when all is over.

        Raises what runs raise, and RuntimeError where a value is finite in one of the two alone.
        """
        return max(self._difference(run, min(rows, self._pool.slots), t) for rows, t in shapes)

    def _difference(self, run: Run, rows: int, steps: int) -> float:
        spec, slots = self._spec, np.arange(1, rows + 1)
        rng = np.random.default_rng(rows)
        seen = np.unique(np.linspace(0, rows - 1, min(rows, _COMPARED)).astype(np.int64))
        zeros = {s.name: np.zeros((rows, *s.shape), s.dtype) for s in spec.states}
        states: Arrays = {name: value[seen] for name, value in zeros.items()}
        self._pool.write(slots, zeros)
        worst = 0.0
        for _ in range(_TICKS):
            lengths = rng.integers(1, steps + 1, rows) if spec.ragged else np.full(rows, steps)
            lengths[0] = steps
            inputs = self._trial.inputs(rng, steps, rows)
            outputs, bad = run(slots, lengths, inputs)
            wrong, states = self._follow(states, inputs, lengths, seen, (outputs, bad))
            worst = max(worst, wrong)
        came = self._pool.read(slots[seen])
        self._pool.write(slots, zeros)
        return max(worst, *(_relative(came[name], value) for name, value in states.items()))

    def _follow(
        self,
        states: Arrays,
        inputs: Arrays,
        lengths: NDArray[np.int64],
        seen: NDArray[np.int64],
        outcome: Outcome,
    ) -> tuple[float, Arrays]:
        """Make the same tick here; return how far off that one was, and the states after it."""
        (outputs, bad), timed = outcome, self._spec.time_axis
        worst, now, finite = 0.0, states, np.ones(len(seen), np.bool_)
        for time in range(int(lengths[seen].max())):
            within = lengths[seen] > time
            given = {n: (v[time] if timed else v)[seen] for n, v in inputs.items()}
            wanted, after = self._reference.step(now, given)
            finite &= ~within | _finite((*wanted.values(), *after.values()))
            now = {n: _where(within, after[n], v) for n, v in now.items()}
            for name, value in wanted.items():
                came = (outputs[name][time] if timed else outputs[name])[seen]
                rows = within & finite
                worst = max(worst, _relative(came[rows], value[rows]))
        if (finite == bad[seen]).any():
            raise RuntimeError("a value is finite on one of the two, and not on the other")
        return worst, {n: _where(finite, now[n], v) for n, v in states.items()}


def _where(
    rows: NDArray[np.bool_], one: NDArray[np.generic], other: NDArray[np.generic]
) -> NDArray[np.generic]:
    result = other.copy()
    result[rows] = one[rows]
    return result


def _finite(values: Sequence[NDArray[np.generic]]) -> NDArray[np.bool_]:
    """Return which rows, `[B]`, have nothing but finite numbers."""
    good = np.ones(len(values[0]), np.bool_)
    for value in values:
        if value.dtype.kind == "f":
            good &= np.isfinite(value.reshape(len(value), -1).astype(np.float64)).all(axis=1)
    return good


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
