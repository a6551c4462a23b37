"""Holding pairs against what was measured: a wrong one is refused with the numbers that show it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from carousel_exporter.adoption.influence import Influence
from carousel_exporter.adoption.options import StatePair
from carousel_exporter.adoption.pairing import SURE, Candidate, Known
from carousel_exporter.errors import ModelFileError, SettingsError

#: A part of an input's elements, carried, that is too small or too large to be chance.
_FEW, _MANY = 0.1, 0.5
#: States of one shape whose orders are all tried.
_MOST_ALIKE = 6


def match_stated(
    states: Sequence[StatePair], known: Known, weighed: Sequence[Candidate]
) -> list[Candidate]:
    """Return the candidates that were stated. Raises SettingsError where one can't be a state."""
    check_names(states, list(known.layout.inputs), list(known.layout.outputs))
    pairs = []
    for state in states:
        found = [c for c in weighed if (c.input, c.output) == (state.input, state.output)]
        if not found:
            raise SettingsError(_misfit(state, known))
        pairs.append(found[0])
    if len(pairs) == len(known.layout.inputs):
        raise SettingsError(
            "Every input is stated to be a state, so nothing is left for clients to send: leave "
            "out the --state of what they send."
        )
    return pairs


def check_names(states: Sequence[StatePair], inputs: list[str], outputs: list[str]) -> None:
    """Raise SettingsError for names that aren't there, or are there twice."""
    for state in states:
        if state.input not in inputs:
            hint = ""
            if state.input in outputs and state.output in inputs:
                hint = f" turn it round: --state {state.output}={state.input};"
            told = ", ".join(map(repr, inputs))
            raise SettingsError(
                f"--state {state}:{hint} there is no input {state.input!r} that could be a state, "
                f"the inputs are {told}."
            )
        if state.output not in outputs:
            told = ", ".join(map(repr, outputs))
            raise SettingsError(
                f"--state {state}: there is no output {state.output!r}, the outputs are {told}."
            )
    for kind in ("input", "output"):
        names = [getattr(state, kind) for state in states]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise SettingsError(
                f"The {kind} {twice!r} is in two --state; a state has one input and one output."
            )


def check_against_rivals(
    influence: Influence, pairs: Sequence[Candidate], weighed: Sequence[Candidate]
) -> None:
    """Raise ModelFileError where numbers speak for another output than the one that is paired."""
    for pair in pairs:
        if pair.output in influence.identical[pair.input]:
            raise ModelFileError(
                f"{pair.output!r} always equals what went in as {pair.input!r} (difference 0), so "
                "it is no state that ever changes: make it a constant with --constant."
            )
    for pair in pairs:
        # A pure delay has no part in its successor, and may well be added to an answer.
        others = {c.output for c in weighed}
        if not influence.reaches(pair.input, pair.output):
            others = {p.output for p in pairs}
        others.discard(pair.output)
        rivals = [c for c in weighed if c.input == pair.input and c.output in others]
        best = max(rivals, key=lambda c: c.carried, default=None)
        if pair.certain or best is None:
            continue
        if pair.carried < _FEW and best.carried >= _MANY:
            raise ModelFileError(
                f"{pair.output!r} is not the successor of {pair.input!r}: {pair.carried:.0%} of "
                f"its elements go on in it one by one, and {best.carried:.0%} do in "
                f"{best.output!r}; state {best.input}={best.output}."
            )
    _check_orders(influence, pairs, {(c.input, c.output) for c in weighed})


def check_complete(pairs: Sequence[Candidate], weighed: Sequence[Candidate]) -> None:
    """Raise ModelFileError where an input that isn't stated is a state beyond doubt.

    One that merely goes on in an output may be an input with a skip connection.
    """
    inputs, outputs = {p.input for p in pairs}, {p.output for p in pairs}
    for other in weighed:
        is_left = other.input not in inputs and other.output not in outputs
        if is_left and other.score >= SURE and (other.certain or other.named):
            raise ModelFileError(
                f"Input {other.input!r} is a state too ({other.reasons[0]} to {other.output!r}): "
                f"add --state {other.input}={other.output}."
            )


def _check_orders(
    influence: Influence, pairs: Sequence[Candidate], fitting: set[tuple[str, str]]
) -> None:
    """Refuse an order in which a state does nothing to its successor, where there is a better one.

    In a delay line no state does, in the right order; in others it would stand still.
    """
    told = {pair.input: pair.output for pair in pairs}
    idle = [name for name, output in told.items() if not influence.reaches(name, output)]
    if not idle or len(pairs) > _MOST_ALIKE:
        return
    for outputs in itertools.permutations(told.values()):
        other = dict(zip(told, outputs, strict=True))
        if all(p in fitting and _could_follow(influence, *p) for p in other.items()):
            better = ", ".join(f"{name}={output}" for name, output in other.items())
            raise ModelFileError(
                f"{told[idle[0]]!r} is not the successor of {idle[0]!r}, which changes it by 0; "
                f"with {better} each state changes its own: state those."
            )


def _could_follow(influence: Influence, name: str, output: str) -> bool:
    return influence.reaches(name, output) and output not in influence.identical[name]


def _misfit(state: StatePair, known: Known) -> str:
    layout = known.layout
    one, other = layout.inputs[state.input], layout.outputs[state.output]
    sides = (
        f"{known.dtypes[state.input]}{_shape(one.shape(1, 1))}",
        f"{known.output_dtypes[state.output]}{_shape(other.shape(1, 1))}",
    )
    time = " for one step" if other.time is not None else ""
    return (
        f"--state {state}: {state.output!r} ({sides[1]}{time}) can't be fed back as "
        f"{state.input!r} ({sides[0]}), because types or shapes differ; name the output that "
        "holds its new value."
    )


def _shape(shape: Sequence[int]) -> str:
    return str(list(shape))
