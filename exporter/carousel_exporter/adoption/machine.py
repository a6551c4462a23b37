"""A graph driven by hand: states fed back, context put before, in whatever layout it wants.

Everything outside is in one order: inputs and outputs (T, B, …), states (B, …).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from carousel_exporter.adoption.axes import Axes
from carousel_exporter.adoption.trials import Arrays, Trial


@dataclass(frozen=True)
class Tail:
    """Context of an input: `length` values on `axis` of its steps, counted without T and B."""

    length: int
    axis: int


@dataclass(frozen=True)
class Wiring:
    """How a graph is driven: axes of all tensors, and which output is which state's successor.

    `free_time`: whether a run may take any number of steps; otherwise it takes one. `lengths` is
    the input that takes each row's number of steps, if any, with its type.
    """

    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    states: Mapping[str, Axes]
    successors: Mapping[str, str]
    free_time: bool
    tails: Mapping[str, Tail] = field(default_factory=dict)
    lengths: tuple[str, np.dtype[np.generic]] | None = None


class Machine:
    """Runs a graph chunk by chunk. Raises TrialError where a run fails."""

    def __init__(self, trial: Trial, wiring: Wiring) -> None:
        self._trial = trial
        self.wiring = wiring

    def advance(self, chunk: Arrays, states: Arrays) -> tuple[Arrays, Arrays]:
        """Take steps (T, B, …) from states (B, …); return answers (T, B, …) and the new states.

        Tails are states too, under their input's name. An output without a time axis answers once
        for a run of several steps: its T is 1.
        """
        if self.wiring.free_time:
            return self._run(chunk, states)
        parts: list[Arrays] = []
        for step in range(len(next(iter(chunk.values())))):
            answer, states = self._run({n: a[step : step + 1] for n, a in chunk.items()}, states)
            parts.append(answer)
        return joined(parts), states

    def advance_in(
        self, cuts: Sequence[int], chunk: Arrays, states: Arrays
    ) -> tuple[Arrays, Arrays]:
        """Do the same in chunks of the given lengths."""
        parts, start = [], 0
        for length in cuts:
            piece = {n: a[start : start + length] for n, a in chunk.items()}
            answer, states = self.advance(piece, states)
            parts.append(answer)
            start += length
        return joined(parts), states

    def _run(self, chunk: Arrays, states: Arrays) -> tuple[Arrays, Arrays]:
        w = self.wiring
        after: Arrays = {}
        chunk = dict(chunk)
        for name, tail in w.tails.items():
            whole = np.concatenate([states[name][None], chunk[name]], axis=tail.axis + 2)
            size = whole.shape[tail.axis + 2]
            kept = np.take(whole, range(size - tail.length, size), axis=tail.axis + 2)
            chunk[name], after[name] = whole, kept[0]
        steps, rows = next(iter(chunk.values())).shape[:2]
        # An input without a time axis, beside others with one, has the same value at all steps.
        once = {n for n, axes in w.inputs.items() if axes.time is None}
        feeds = {
            name: axes.original(chunk[name][-1:] if name in once else chunk[name])
            for name, axes in w.inputs.items()
        }
        feeds |= {name: axes.original(states[name][None]) for name, axes in w.states.items()}
        if w.lengths:
            feeds[w.lengths[0]] = np.full(rows, steps, w.lengths[1])
        found = self._trial.run(feeds)
        answers = {name: axes.canonical(found[name]) for name, axes in w.outputs.items()}
        for name, successor in w.successors.items():
            after[name] = w.states[name].canonical(found[successor])[0]
        return answers, after


def joined(parts: Sequence[Arrays]) -> Arrays:
    """Put answers end to end."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
