"""An unstable network: how fast it makes rounding grow, and its steps compared from equal states.

Over a whole sequence two right programs part where a network is unstable. From equal states they
can part by one step's rounding only, at every state that the sequence comes through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carousel_exporter import rounding
from carousel_exporter.driving import Reference
from carousel_exporter.equality import Check, compare
from carousel_exporter.rounding import ALLOWANCE, MOST_A_STEP, WALKS, Advance, Floors, Noise, Step
from carousel_exporter.runner import Arrays, Runner
from carousel_exporter.wording import steps, tiny


@dataclass(frozen=True)
class Measured:
    """A model file, the network that it must equal, if there is one, and sessions to run.

    What is measured is measured on that network, so that a wrong file can't excuse itself; on the
    file where there is none.
    """

    runner: Runner
    against: Reference | None
    sessions: Sequence[Arrays]
    floors: Floors
    rng: np.random.Generator

    def along_sequences(self) -> Noise:
        """Return how far rounding takes the sessions' answers and states, by step."""
        network = self._file if self.against is None else self.against.advance
        ones = [rounding.walk(network, session) for session in self.sessions]
        others = [
            rounding.walk(network, session, self.rng)
            for _ in range(WALKS)
            for session in self.sessions
        ]
        if (twin := self._twin) is not None:
            others += [rounding.walk(twin, session) for session in self.sessions]
        again = len(others) // len(ones)
        return rounding.along(ones * again, others, self.floors)

    def compare_steps(self) -> list[Check]:
        """Compare each step with PyTorch's, from the file's state before it.

        Empty where there is no other network, or its states have other names.
        """
        if self.against is None:
            return []
        files = [step for session in self.sessions for step in rounding.walk(self._file, session)]
        inputs = [step for session in self.sessions for step in _cut(session)]
        pairs = list(zip(inputs, files, strict=True))
        if {*self.against.advance(inputs[0], None)[1]} != {*self.runner.states}:
            return []
        theirs = [self._step(self.against.advance, x, file.before) for x, file in pairs]
        twin, advance = self._twin, self.against.advance
        others = [
            self._step(advance, x, rounding.rounded(file.before, self.rng))
            if twin is None
            else self._step(twin, x, file.before)
            for x, file in pairs
        ]
        noise = rounding.along([[s] for s in theirs], [[s] for s in others], self.floors)
        ours, found = ([(s.answer, s.after) for s in kind] for kind in (files, theirs))
        name = "PyTorch, each step from equal states"
        return [compare(name, ours, found, self.floors, noise.at_most(MOST_A_STEP))]

    def note(self, noise: Noise) -> str:
        """Say what was measured, and what follows."""
        length = len(next(iter(self.sessions[0].values())))
        told = (
            f"The network is unstable: rounding alone grows to {tiny(noise.largest)} within "
            f"{steps(length)}, so answers and states may be as far apart as {ALLOWANCE:.0f} times "
            "what it has grown to by their step."
        )
        if noise.parted is not None:
            told += (
                f" From step {noise.parted} on two right programs have parted: what comes later "
                "is not compared in whole sequences."
            )
        return told

    @property
    def _twin(self) -> Advance | None:
        double = None if self.against is None else self.against.in_double()
        return None if double is None else double.advance

    def _file(self, chunk: Arrays, state: Arrays | None) -> tuple[Arrays, Arrays]:
        (answer,), (after,) = self.runner.advance([chunk], [state or self.runner.new_state()])
        return answer, after

    @staticmethod
    def _step(advance: Advance, x: Arrays, before: Arrays | None) -> Step:
        return Step(before, *advance(x, before))


def _cut(session: Arrays) -> list[Arrays]:
    """Return a session's steps, (1, …) each."""
    length = len(next(iter(session.values())))
    return [{name: array[t : t + 1] for name, array in session.items()} for t in range(length)]
