"""A model in plain numpy, exactly computable, that fails on command: the engine's tests need no
ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from carousel_server.errors import RunError
from carousel_server.spec import ModelSpec, StateSpec, TensorSpec

#: A value of the first element on which the run raises.
CRASH = -1.0
#: A value of the first element on which the row comes out bad.
SPOIL = -2.0

_MODULUS = 10_007


def after(state: float, x: np.ndarray) -> float:
    """Return the state after one step; it depends on the order of steps, and is exact."""
    return (31 * state + x[0] + 7 * x[1]) % _MODULUS


def solo(x: np.ndarray, state: float = 0.0) -> np.ndarray:
    """Return what a session alone answers to `x` [T, 2]: [T, 2], the state and the input."""
    answers = np.empty((len(x), 2))
    for step, value in enumerate(x):
        state = after(state, value)
        answers[step] = state, value[0]
    return answers


@dataclass(frozen=True)
class Run:
    """One run that the model was asked for."""

    slots: list[int]
    lengths: list[int]


class RecurrenceRunner:
    """Keeps `s` in slots: s' = (31 s + x[0] + 7 x[1]) mod 10007, y = (s', x[0])."""

    def __init__(
        self,
        slots: int = 8,
        *,
        time_axis: bool = True,
        ragged: bool = True,
        max_batch: int = 0,
        tokens: bool = False,
        initial: float = 0.0,
    ) -> None:
        f8, i8 = np.dtype("<f8"), np.dtype("<i8")
        inputs = [TensorSpec("x", f8, (2,))]
        if tokens:
            inputs.append(TensorSpec("k", i8, (), minimum=0, maximum=9))
        self.spec = ModelSpec(
            inputs=tuple(inputs),
            outputs=(TensorSpec("y", f8, (2,)),),
            states=(StateSpec("s", "s_out", f8, (), np.array(initial, f8)),),
            time_axis=time_axis,
            sequence_lens="lengths" if time_axis and ragged else "",
            max_batch=max_batch,
        )
        self.slots = slots
        self.states = np.zeros(slots + 1)
        self.runs: list[Run] = []
        #: Called at the start of each run, on the thread that runs it.
        self.before_run: Callable[[], None] = lambda: None

    def run(self, slots, lengths, inputs):
        self.before_run()
        self.runs.append(Run(slots.tolist(), lengths.tolist()))
        x = inputs["x"] if self.spec.time_axis else inputs["x"][None]  # (T, B, 2)
        self._check(slots, lengths, x)
        time = np.arange(len(x))[:, None]
        within = time < lengths  # (T, B)
        if (within & (x[..., 0] == CRASH)).any():
            raise RunError("a value crashed it")
        bad = (within & (x[..., 0] == SPOIL)).any(axis=0)
        state, y = self.states[slots], np.full(x.shape, np.nan)
        for step in range(len(x)):
            new = (31 * state + x[step, :, 0] + 7 * x[step, :, 1]) % _MODULUS
            state = np.where(within[step], new, state)
            y[step, :, 0], y[step, :, 1] = state, x[step, :, 0]
        y[~within] = np.nan  # nobody may see what is behind a row's end
        self.states[slots[~bad]] = state[~bad]
        return {"y": y if self.spec.time_axis else y[0]}, bad

    def write(self, slots: np.ndarray, states: Mapping[str, np.ndarray]) -> None:
        self._check_unique(slots)
        self.states[slots] = states["s"]

    def read(self, slots):
        return {"s": self.states[slots]}

    def _check(self, slots, lengths, x) -> None:
        self._check_unique(slots)
        assert np.isfinite(x).all(), "padding too must be valid"
        assert lengths.min() >= 1
        assert lengths.max() == len(x), "no step may be padding for every row"
        if not self.spec.ragged:
            assert (lengths == len(x)).all()
        if self.spec.max_batch:
            assert len(slots) <= self.spec.max_batch

    def _check_unique(self, slots) -> None:
        taken = slots[slots > 0]
        assert len(taken) == len(slots), "slot 0 is nobody's"
        assert len(set(taken.tolist())) == len(taken), "a state would be written twice"
