"""How far rounding alone takes a network's numbers: what no conversion can be closer than.

Where a network is unstable (a chaotic one, or one with two attractors between which a session
hangs), the last bit of a state grows step by step, and two right programs part. How fast is
measured on the network itself, in one of two ways: the same steps in double precision, or, where
there is none, with each state disturbed by as much as its own rounding. Measured by step, so that
what is allowed late in a sequence excuses nothing early in it.
docs/decisions/0033-unstable-networks.md says what else was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from carousel_exporter.runner import Arrays

#: How many times as far as measured two right programs may part: each rounds its sums in an order
#: of its own, and what was measured is a sample of that.
ALLOWANCE: Final = 32.0
#: A network is unstable where rounding alone grows to more than this; a stable one's stays at some
#: units in the last place, 1e-7 each.
UNSTABLE: Final = 1e-6
#: Where so much would be allowed sequences have parted: numbers from there on prove nothing.
PARTED: Final = 0.1
#: The most that may be allowed for a single step: beyond it nothing would be proved.
MOST_A_STEP: Final = 1e-3
#: How often sessions are walked with disturbed states.
WALKS: Final = 4

Advance = Callable[[Arrays, Arrays | None], tuple[Arrays, Arrays]]
"""Runs a chunk of one session from a state, None a new one: answers (T, …) and the new state."""

Floors = dict[str, np.ndarray]
"""From which size on a tensor's differences are relative to the value, where that isn't 1."""


class Step(NamedTuple):
    """One step of a session: the state before, its answers (1, …), the state after."""

    before: Arrays | None
    answer: Arrays
    after: Arrays


@dataclass(frozen=True)
class Noise:
    """How far rounding takes each tensor, relative to max(floor, |value|), by name.

    `answers` are (T,), and never fall: what has grown once may show at any later step. `states`
    are after the last step.
    """

    answers: dict[str, np.ndarray]
    states: dict[str, np.ndarray]

    @property
    def largest(self) -> float:
        """The largest of all."""
        return max(float(value.max()) for value in [*self.answers.values(), *self.states.values()])

    @property
    def parted(self) -> int | None:
        """The first step, from 0, from which sequences have parted; None where they don't."""
        apart = np.logical_or.reduce([v * ALLOWANCE > PARTED for v in self.answers.values()])
        return int(np.argmax(apart)) if apart.any() else None

    def at_most(self, allowed: float) -> Noise:
        """Return as much of it as allows for differences up to `allowed`."""
        most = allowed / ALLOWANCE
        return Noise(
            {name: np.minimum(value, most) for name, value in self.answers.items()},
            {name: np.minimum(value, most) for name, value in self.states.items()},
        )


def allowed(tolerance: float, noise: np.ndarray | float) -> np.ndarray:
    """Return how large a difference may be where rounding alone grows to `noise`; inf if parted."""
    most = np.maximum(tolerance, ALLOWANCE * np.asarray(noise))
    return np.where(most > PARTED, np.inf, most)


def walk(
    advance: Advance, session: Arrays, disturb: np.random.Generator | None = None
) -> list[Step]:
    """Run a session step by step; with `disturb` each state is rounded once more on the way."""
    track: list[Step] = []
    state: Arrays | None = None
    for step in range(len(next(iter(session.values())))):
        before = state if disturb is None else rounded(state, disturb)
        here = {name: array[step : step + 1] for name, array in session.items()}
        answer, state = advance(here, before)
        track.append(Step(before, answer, state))
    return track


def along(ones: Sequence[list[Step]], others: Sequence[list[Step]], floors: Floors) -> Noise:
    """Return how far sessions part that were walked with different rounding."""
    answers: dict[str, np.ndarray] = {}
    states: dict[str, np.ndarray] = {}
    for one, other in zip(ones, others, strict=True):
        for name in one[0].answer:
            pairs = [(a.answer[name], b.answer[name]) for a, b in zip(one, other, strict=True)]
            parted = np.array([apart(a, b, floors.get(name)) for a, b in pairs])  # (T,)
            grown = np.maximum.accumulate(parted)
            answers[name] = np.maximum(grown, answers.get(name, grown))
        for name in one[0].after:
            pairs = [(a.after[name], b.after[name]) for a, b in zip(one, other, strict=True)]
            last = np.array(max(apart(a, b, floors.get(name)) for a, b in pairs))
            states[name] = np.maximum(last, states.get(name, last))
    return Noise(answers, states)


def apart(one: np.ndarray, other: np.ndarray, floor: np.ndarray | None) -> float:
    """Return the largest difference, relative to max(floor, |one|); 0 where one isn't finite."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    relative = np.abs(a - b) / np.maximum(1.0 if floor is None else floor, np.abs(a))
    return float(relative.max(initial=0.0)) if np.isfinite(relative).all() else 0.0


def rounded(state: Arrays | None, rng: np.random.Generator) -> Arrays | None:
    """Return a state whose numbers are off by a unit in the last place at most."""
    return state and {name: _disturbed(value, rng) for name, value in state.items()}


def _disturbed(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if value.dtype.kind != "f":
        return value
    off = rng.uniform(-1, 1, value.shape) * np.finfo(value.dtype).eps
    return np.asarray(value.astype(np.float64) * (1 + off)).astype(value.dtype)
