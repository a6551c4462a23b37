"""Proving by numbers that fed-back states explain the future, and that answers don't foresee it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from carousel_exporter.adoption import extremes
from carousel_exporter.adoption.axes import Axes
from carousel_exporter.adoption.bounds import Values
from carousel_exporter.adoption.influence import Influence
from carousel_exporter.adoption.layouts import Layout
from carousel_exporter.adoption.machine import Machine, Wiring, joined
from carousel_exporter.adoption.trials import Arrays
from carousel_exporter.equality import Difference, difference

#: A sequence, and the chunks that it is cut into: lengths that differ, a single step among them.
CUTS: Final = (2, 1, 3)
STEPS: Final = sum(CUTS)

Dtypes = Mapping[str, np.dtype[np.generic]]


@dataclass(frozen=True)
class Chunked:
    """How far a sequence in chunks was off the whole one: with states fed back, and without."""

    fed_back: Difference
    forgotten: Difference

    @property
    def passed(self) -> bool:
        """Whether feeding back explains the future: right with it."""
        return self.fed_back.excess <= 1


def wire(
    layout: Layout,
    pairs: Mapping[str, str],
    lengths: tuple[str, np.dtype[np.generic]] | None = None,
) -> Wiring:
    """Return how a graph is driven whose states are `pairs`, input to output."""
    return Wiring(
        inputs={name: axes for name, axes in layout.inputs.items() if name not in pairs},
        outputs={o: axes for o, axes in layout.outputs.items() if o not in pairs.values()},
        states={name: layout.inputs[name] for name in pairs},
        successors=dict(pairs),
        free_time=layout.steps,
        lengths=lengths,
    )


def draw_chunk(
    wiring: Wiring, dtypes: Dtypes, values: Values, *, rows: int, steps: int, scale: float = 1.0
) -> Arrays:
    """Draw inputs (T, B, …); one without a time axis, beside others with one, stays the same."""
    chunk: Arrays = {}
    timed = any(axes.time is not None for axes in wiring.inputs.values())
    for name, axes in wiring.inputs.items():
        step = list(axes.step)
        if name in wiring.tails:
            step[wiring.tails[name].axis] -= wiring.tails[name].length
        constant = timed and axes.time is None
        drawn = values.draw(name, dtypes[name], (1 if constant else steps, rows, *step), scale)
        chunk[name] = np.repeat(drawn, steps, axis=0) if constant else drawn
    return chunk


def draw_states(wiring: Wiring, dtypes: Dtypes, values: Values, rows: int) -> Arrays:
    """Draw states (B, …), so that they matter from the first step on."""
    states = {
        name: values.draw(name, dtypes[name], (rows, *axes.step), 0.5)
        for name, axes in wiring.states.items()
    }
    for name, tail in wiring.tails.items():
        step = list(wiring.inputs[name].step)
        step[tail.axis] = tail.length
        states[name] = values.draw(name, dtypes[name], (rows, *step))
    return states


def in_chunks(machine: Machine, chunk: Arrays, states: Arrays) -> Chunked:
    """Run a sequence whole, in chunks, and in chunks that all begin from the same states.

    Of an output that has no time axis, the last chunk's is compared. Raises TrialError.
    """
    whole, end = machine.advance(chunk, states)
    fed, fed_end = machine.advance_in(CUTS, chunk, states)
    parts, start = [], 0
    for length in CUTS:
        piece = {n: a[start : start + length] for n, a in chunk.items()}
        answer, last = machine.advance(piece, states)
        parts.append(answer)
        start += length
    return Chunked(
        worst(_ends(machine.wiring, whole) | end, _ends(machine.wiring, fed) | fed_end),
        worst(_ends(machine.wiring, whole) | end, _ends(machine.wiring, joined(parts)) | last),
    )


def apart_in_chunks(machine: Machine, chunk: Arrays, states: Arrays) -> Difference:
    """Run a sequence whole and in chunks, and compare loosely. Raises TrialError."""
    whole, end = machine.advance(chunk, states)
    fed, fed_end = machine.advance_in(CUTS, chunk, states)
    return extremes.far_apart(
        _ends(machine.wiring, whole) | end, _ends(machine.wiring, fed) | fed_end
    )


def _ends(wiring: Wiring, answers: Arrays) -> Arrays:
    return {
        name: array if wiring.outputs[name].time is not None else array[-1:]
        for name, array in answers.items()
    }


def foresight(machine: Machine, chunk: Arrays, states: Arrays, values: Values) -> Difference | None:
    """Change the second half of the inputs, and return what that did to the first of the answers.

    None where no output has a time axis. Raises TrialError.
    """
    timed = [name for name, axes in machine.wiring.outputs.items() if axes.time is not None]
    if not timed:
        return None
    half = STEPS // 2
    other = {}
    for name, array in chunk.items():
        other[name] = array.copy()
        if machine.wiring.inputs[name].time is not None:
            drawn = values.draw(name, array.dtype, array[half:].shape)
            other[name][half:] = drawn
    a, _ = machine.advance(chunk, states)
    b, _ = machine.advance(other, states)
    return worst({n: a[n][:half] for n in timed}, {n: b[n][:half] for n in timed})


def worst(reference: Arrays, found: Arrays) -> Difference:
    """Return the largest difference over some tensors, by what each type allows."""
    differences = [difference(name, reference[name], found[name], 1.0) for name in reference]
    return max(differences, key=lambda d: d.excess)


def forgetful(influence: Influence, pairs: Mapping[str, str]) -> list[str]:
    """Return the states that reach no answer, not even by way of other states."""
    answers = {o for o in next(iter(influence.change.values())) if o not in pairs.values()}
    answers = answers or set(pairs.values())  # which then are answers too
    useful: set[str] = set()
    while True:
        more = {
            name
            for name in pairs
            if name not in useful
            and any(
                influence.reaches(name, output)
                for output in (*answers, *(pairs[n] for n in useful))
            )
        }
        if not more:
            return [name for name in pairs if name not in useful]
        useful |= more


def single_step(axes: Axes) -> Axes:
    """Take an axis of size 1 beside the batch axis, in three axes or more, for a time axis of 1.

    Taking it away loses nothing; keeping it would have clients send it.
    """
    if axes.time is not None or axes.batch not in (0, 1) or len(axes.dims) < 3:
        return axes
    beside = 1 - axes.batch
    return replace(axes, time=beside) if axes.dims[beside] == 1 else axes
