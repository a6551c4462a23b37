"""Choosing the states of a graph among its candidates, or holding stated ones against numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import onnx

from carousel_exporter.adoption import evidence, extremes, proof
from carousel_exporter.adoption.bounds import Values
from carousel_exporter.adoption.continuity import continuity
from carousel_exporter.adoption.machine import Machine
from carousel_exporter.adoption.options import Options
from carousel_exporter.adoption.pairing import (
    ENOUGH,
    Candidate,
    Known,
    combinations,
    inputs_perhaps,
    with_twins,
)
from carousel_exporter.adoption.stated import check_against_rivals, check_complete, match_stated
from carousel_exporter.adoption.trials import Arrays, Trial, TrialError
from carousel_exporter.equality import Difference
from carousel_exporter.errors import ModelFileError

#: Sets of pairs that are tried by running.
_MOST_SETS: Final = 60
#: Scores that are closer than this differ by the order of names alone.
_CLOSE: Final = 1.0

Choice = tuple[list[Candidate], proof.Chunked | None, list[str]]
"""The states, how chunks compared with the whole if a run takes many steps, and doubts in words."""


class NotProved(ModelFileError):
    """A reading of the axes ran, and no states of it could be proved."""


class Chooser:
    """Chooses the states of one reading of a graph's axes."""

    def __init__(
        self,
        trial: Trial,
        known: Known,
        weighed: Sequence[Candidate],
        *,
        options: Options,
        values: Values,
        lengths: tuple[str, np.dtype[np.generic]] | None,
    ) -> None:
        self._trial = trial
        self._known = known
        self._weighed = weighed
        self._options = options
        self._values = values
        self._lengths = lengths

    def choose(self) -> Choice:
        """Return the states. Raises ModelFileError where none can be proved, or they are wrong."""
        if self._options.states:
            pairs = match_stated(self._options.states, self._known, self._weighed)
            choice: Choice = pairs, self._prove_stated(pairs), []
        else:
            choice = self._propose()
        self._refuse_forgotten(choice[0])
        if self._known.layout.steps:
            self._refuse_common(choice[0])
        return choice

    def _refuse_common(self, pairs: Sequence[Candidate]) -> None:
        """Refuse what steps of a run have in common, a peak, say: it shows where some are loud."""
        machine, chunk, states = self._drawn(pairs)
        try:
            found = proof.apart_in_chunks(machine, extremes.spread(chunk), states)
        except TrialError:
            return  # such inputs don't run, whole or in chunks
        if found.excess > 1:
            raise NotProved(
                f"Where some steps are very loud and others very quiet, {found.tensor!r} differs "
                f"by {found.value:.1e} between chunks and the whole sequence: something is "
                "computed over all steps of a run together, so it can't be streamed."
            )

    def _refuse_forgotten(self, pairs: Sequence[Candidate]) -> None:
        """Refuse states that change no answer, unless operators say what they are."""
        told = {pair.input: pair.output for pair in pairs}
        certain = {pair.input for pair in pairs if pair.certain}
        lost = [n for n in proof.forgetful(self._known.influence, told) if n not in certain]
        if lost:
            raise NotProved(
                f"State {lost[0]!r} changes no answer, now or later (largest change 0): it is no "
                "state; leave it out, or make it a constant with --constant."
            )

    def _prove_stated(self, pairs: Sequence[Candidate]) -> proof.Chunked | None:
        check_against_rivals(self._known.influence, pairs, self._weighed)
        if not self._known.layout.steps:
            check_complete(pairs, self._weighed)
            self._check_operators(pairs)
            return None
        chunked = self._chunks(pairs)
        if not chunked.passed:
            raise NotProved(f"{_stated(pairs)}: {_unexplained(chunked.fed_back)}.")
        return chunked

    def _propose(self) -> Choice:
        if self._known.layout.steps and self._weighed:
            return self._propose_by_chunks()
        weighed = with_twins(self._known, self._weighed)
        names = list(self._known.layout.inputs)
        sets = combinations([c for c in weighed if c.score >= ENOUGH], names)
        best, second = next(sets, None), next(sets, None)
        if best is None and self._options.contexts:
            return [], None, []  # the context is the only state
        if best is None:
            raise NotProved(_undecided(self._known.graph, weighed))
        self._refuse_ambiguous(best)
        check_against_rivals(self._known.influence, best, weighed)
        self._check_operators(best)
        return best, None, list(_doubts(best, second))

    def _refuse_ambiguous(self, pairs: Sequence[Candidate]) -> None:
        """Refuse to guess whether an input that goes on in an output is a state."""
        for pair, others in inputs_perhaps(pairs, self._known):
            raise ModelFileError(
                f"{pair.output!r} may be the successor of a state {pair.input!r}, or an answer in "
                f"which an input {pair.input!r} goes on, as with a skip connection, and numbers "
                f"can't tell: state all states, {_flags(pairs)} or {_flags(others)}."
            )

    def _propose_by_chunks(self) -> Choice:
        """Take the first set of states with which chunks give what the whole sequence does."""
        closest: tuple[list[Candidate], Difference] | None = None
        names = list(self._known.layout.inputs)
        for count, pairs in enumerate(combinations(self._weighed, names)):
            chunked = self._chunks(pairs)
            if chunked.passed:
                return pairs, chunked, []
            if closest is None or chunked.fed_back.excess < closest[1].excess:
                closest = pairs, chunked.fed_back
            if count + 1 == _MOST_SETS:
                break
        if closest is None:
            raise NotProved(no_state(self._known.graph))
        told = ", ".join(f"{c.input}={c.output}" for c in closest[0])
        raise NotProved(
            f"No choice of states explains the future: with the closest ({told}), "
            f"{_unexplained(closest[1])}."
        )

    def _check_operators(self, pairs: Sequence[Candidate]) -> None:
        """Refuse states with which recurrent operators don't go on where they stopped."""
        dtypes = self._known.dtypes
        wiring = proof.wire(self._known.layout, {p.input: p.output for p in pairs}, self._lengths)
        chunk = proof.draw_chunk(wiring, dtypes, self._values, rows=1, steps=proof.STEPS)
        states = proof.draw_states(wiring, dtypes, self._values, 1)
        found = continuity(self._known.model, wiring, chunk, states)
        if found is not None and found.excess > 1:
            raise ModelFileError(
                f"{_stated(pairs)}: with them fed back over {proof.STEPS} steps, {found.tensor!r} "
                f"of a recurrent layer differs by {found.value:.1e} from the same layer's in one "
                f"run, and {found.tolerance:.0e} is allowed."
            )

    def _chunks(self, pairs: Sequence[Candidate]) -> proof.Chunked:
        """Compare chunks with the whole, on the same sequence for every choice of states."""
        return proof.in_chunks(*self._drawn(pairs))

    def _drawn(self, pairs: Sequence[Candidate]) -> tuple[Machine, Arrays, Arrays]:
        """Return a machine with such states, and a sequence and states for it."""
        dtypes = self._known.dtypes
        wiring = proof.wire(self._known.layout, {p.input: p.output for p in pairs}, self._lengths)
        values = self._values.anew(self._options.seed)
        chunk = proof.draw_chunk(wiring, dtypes, values, rows=1, steps=proof.STEPS)
        states = proof.draw_states(wiring, dtypes, values, 1)
        return Machine(self._trial, wiring), chunk, states


def _unexplained(difference: Difference) -> str:
    cuts = ", ".join(map(str, proof.CUTS))
    return (
        f"a sequence in chunks of {cuts} steps differs from the whole one by "
        f"{difference.value:.1e} in {difference.tensor!r}, and {difference.tolerance:.0e} is "
        "allowed"
    )


def _flags(pairs: Sequence[Candidate]) -> str:
    return " ".join(f"--state {c.input}={c.output}" for c in pairs)


def _stated(pairs: Sequence[Candidate]) -> str:
    told = ", ".join(f"{c.input}={c.output}" for c in pairs)
    return f"The states {told} don't explain the future"


def no_state(graph: onnx.GraphProto) -> str:
    """Say that a graph keeps no state, and that its recurrent layers keep theirs to themselves."""
    inner = [n for n in graph.node if n.op_type in evidence.RECURRENT]
    begins = ""
    if inner:
        label = inner[0].name or inner[0].output[0]
        begins = f" (its {inner[0].op_type} {label!r} begins anew on each run)"
    return (
        f"The graph keeps no state{begins}: no output has the type and shape of an input, so there "
        "is nothing to carry from run to run; export it with its states as inputs and outputs."
    )


def _undecided(graph: onnx.GraphProto, weighed: Sequence[Candidate]) -> str:
    if not weighed:
        return no_state(graph)
    likely = max(weighed, key=lambda c: c.score)
    return (
        f"Neither names nor numbers tell which inputs are states: the likeliest is "
        f"{likely.input!r}, which {likely.output!r} would follow; state them all, with "
        f"--state {likely.input}={likely.output}."
    )


def _doubts(best: Sequence[Candidate], second: Sequence[Candidate] | None) -> Iterator[str]:
    """Say where another choice was as good but for the order of names."""
    if second is None:
        return
    close = sum(c.score for c in best) - sum(c.score for c in second) < _CLOSE
    if close and len(second) == len(best):
        other = [c for c in second if c not in best]
        told = ", ".join(f"{c.input}={c.output}" for c in other)
        yield (
            f"Numbers and names can't tell this choice from {told}: the order decided, so check it."
        )
