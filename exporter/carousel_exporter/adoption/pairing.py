"""Which output is which input's successor: candidates by shape, weighed by all there is to know."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx

from carousel_exporter.adoption import evidence
from carousel_exporter.adoption.bounds import Values
from carousel_exporter.adoption.graphs import reachable
from carousel_exporter.adoption.influence import Influence, carried
from carousel_exporter.adoption.layouts import Layout
from carousel_exporter.adoption.trials import Arrays, Trial
from carousel_exporter.wording import counted

#: What each kind of evidence weighs. The graph's own operators decide, numbers come next, and names
#: last; what weighs less than `ENOUGH` is a guess, and
#: what weighs `SURE` is more than names.
_OPERATOR: Final = 100.0
_CARRIED: Final = 25.0
_NAME: Final = 30.0
_ONLY: Final = 6.0
_TWIN: Final = 6.0
_STATE_WORD: Final = 4.0
_DATA_WORD: Final = -16.0
_UPSTREAM: Final = 3.0
_NO_INFLUENCE: Final = -5.0
_ORDER: Final = 0.5
ENOUGH: Final = 5.0
SURE: Final = 20.0
#: More combinations than this are not weighed one by one.
_MOST: Final = 20_000
#: A part of an input's elements that is too large to be chance.
_SOME: Final = 0.25


@dataclass(frozen=True)
class Candidate:
    """An input and an output of one shape and type, and what speaks for them being a state.

    `carried` is the part of the input's elements that go on in the output one by one; `certain`
    says that the graph's own operators speak for the pair, and `named` that its names do.
    """

    input: str
    output: str
    score: float
    carried: float
    certain: bool
    named: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """What was found out of a graph before asking for its states."""

    model: onnx.ModelProto
    layout: Layout
    influence: Influence
    dtypes: Mapping[str, np.dtype[np.generic]]
    output_dtypes: Mapping[str, np.dtype[np.generic]]

    @property
    def graph(self) -> onnx.GraphProto:
        """The graph of the model."""
        return self.model.graph


def candidates(known: Known, trial: Trial, feed: Arrays, values: Values) -> list[Candidate]:
    """Return every pair that could be a state, with its evidence."""
    pairs = [(i, o) for i in known.layout.inputs for o in known.layout.outputs if _fit(known, i, o)]
    weighed = []
    taken = {i: evidence.roles_taken(known.graph, i) for i, _ in pairs}
    given = {o: evidence.roles_given(known.graph, o) for _, o in pairs}
    for i, o in pairs:
        passed_on = o in known.influence.identical[i]
        part = 0.0 if passed_on else carried(trial, feed, i, o, values)
        found = [
            *_by_operators(taken[i], given[o]),
            *_by_carrying(part),
            *_by_names(i, o),
            *_by_being_alone(i, o, pairs),
            *_by_influence(known, i, o, pairs),
        ]
        # The sum of products is largest where first goes to first, second to second, and so on.
        order = _place(known.layout.inputs, i) * _place(known.layout.outputs, o)
        score = sum(weight for weight, _ in found) + _ORDER * order
        reasons = [reason for weight, reason in sorted(found, reverse=True) if weight > 0]
        certain = _is_certain(taken[i], given[o])
        named = sum(weight for weight, _ in _by_names(i, o)) > 0
        weighed.append(Candidate(i, o, score, part, certain, named, tuple(reasons)))
    return weighed


def with_twins(known: Known, weighed: Sequence[Candidate]) -> list[Candidate]:
    """Weigh anew what has the shape of a state beyond doubt, as an LSTM's h has that of its c."""
    sure = [c for c in weighed if c.score >= SURE]
    result = []
    for candidate in weighed:
        axes = known.layout.inputs[candidate.input]
        twins = [c for c in sure if known.layout.inputs[c.input] == axes]
        free = all(candidate.input != c.input and candidate.output != c.output for c in sure)
        if twins and free:
            reason = f"of the same shape as state {twins[0].input!r}"
            score, reasons = candidate.score + _TWIN, (*candidate.reasons, reason)
            candidate = replace(candidate, score=score, reasons=reasons)  # noqa: PLW2901
        result.append(candidate)
    return result


def combinations(weighed: Sequence[Candidate], inputs: Sequence[str]) -> Iterator[list[Candidate]]:
    """Yield sets of pairs, the best first: no input and no output twice, and one input left over.

    With very many candidates only the one set that takes the best pair first, then the next.
    """
    options = {i: [c for c in weighed if c.input == i] for i in inputs}
    sizes = np.prod([len(found) + 1 for found in options.values()], dtype=float)
    if sizes > _MOST:
        yield _greedy(weighed)
        return
    chosen = itertools.product(*([None, *found] for found in options.values()))
    sets = [[c for c in choice if c is not None] for choice in chosen]
    fitting = [s for s in sets if s and len(s) < len(inputs) and _is_one_to_one(s)]
    yield from sorted(fitting, key=lambda s: (-sum(c.score for c in s), -len(s)))


def inputs_perhaps(
    chosen: Sequence[Candidate], known: Known
) -> Iterator[tuple[Candidate, list[Candidate]]]:
    """Yield pairs that may be an input going on in an answer, with the states if it is one.

    An answer that is an input and something more (a skip connection), or an input times a mask,
    carries elements as a cell state's successor does. Names and operators tell; where they don't,
    it is a question where the other pairs are states by themselves, and either have that told or
    leave no answer besides states.
    """
    answers = len(known.layout.outputs) - len(chosen)
    for pair in chosen:
        others = [c for c in chosen if c is not pair]
        if pair.certain or pair.named or pair.carried < _SOME or not others:
            continue
        told = all(c.certain or c.named for c in others)
        if told or (answers == 0 and all(c.score >= ENOUGH for c in others)):
            yield pair, others


def _place(names: Mapping[str, object], name: str) -> float:
    """Return where a name stands among others, from just above 0 to 1 for the last."""
    return (list(names).index(name) + 1) / len(names)


def _is_one_to_one(chosen: Sequence[Candidate]) -> bool:
    return len({c.output for c in chosen}) == len(chosen)


def _greedy(weighed: Sequence[Candidate]) -> list[Candidate]:
    chosen: list[Candidate] = []
    for candidate in sorted(weighed, key=lambda c: -c.score):
        free = all(candidate.input != c.input and candidate.output != c.output for c in chosen)
        if free and candidate.score >= ENOUGH:
            chosen.append(candidate)
    return chosen


def _fit(known: Known, name: str, output: str) -> bool:
    """Tell whether what an output gives could go into an input."""
    i, o = known.layout.inputs[name], known.layout.outputs[output]
    if known.dtypes[name] != known.output_dtypes[output] or i.time is not None:
        return False
    return o.time is None and _rowless(i.shape(0, 0), i.batch) == _rowless(o.shape(0, 0), o.batch)


def _rowless(shape: tuple[int, ...], batch: int | None) -> tuple[int, ...]:
    return tuple(1 if axis == batch else size for axis, size in enumerate(shape))


Found = Iterator[tuple[float, str]]


def _is_certain(taken: frozenset[evidence.Role], given: frozenset[evidence.Role]) -> bool:
    return bool(taken) and taken == given


def _by_operators(taken: frozenset[evidence.Role], given: frozenset[evidence.Role]) -> Found:
    if _is_certain(taken, given):
        kinds = " and ".join(dict.fromkeys(sorted((kind for _, kind in taken), reverse=True)))
        nodes = counted(len({node for node, _ in taken}), "recurrent layer")
        yield _OPERATOR, f"it is {kinds} of {nodes} in the graph, before and after"
    elif taken:
        yield -_OPERATOR, ""


def _by_carrying(part: float) -> Found:
    if part >= _SOME:
        yield _CARRIED, f"{part:.0%} of its elements go on one by one"


def _by_names(name: str, output: str) -> Found:
    is_data = evidence.is_data_like(name, output=False) and not evidence.is_state_like(name)
    alike = evidence.likeness(name, output)
    if alike and not is_data:  # audio in, audio out
        yield _NAME * alike, "names alike"
    if evidence.is_state_like(name):
        yield _STATE_WORD, "named like a state"
    if evidence.is_state_like(output):
        yield _STATE_WORD, "its successor is named like a state"
    if is_data:
        yield _DATA_WORD, ""
    if evidence.is_data_like(output, output=True) and not evidence.is_state_like(output):
        yield _DATA_WORD, ""


def _by_being_alone(name: str, output: str, pairs: Sequence[tuple[str, str]]) -> Found:
    of_input = [pair for pair in pairs if pair[0] == name]
    of_output = [pair for pair in pairs if pair[1] == output]
    if len(of_input) == len(of_output) == 1:
        yield _ONLY, "the only two of their shape and type"


def _by_influence(known: Known, name: str, output: str, pairs: Sequence[tuple[str, str]]) -> Found:
    if output in known.influence.identical[name]:
        yield -_OPERATOR, ""
    elif not known.influence.reaches(name, output):
        yield _NO_INFLUENCE, ""
    rivals = {o for i, o in pairs if i == name and o != output}
    if rivals & reachable(known.graph, [output]):
        yield _UPSTREAM, "another output is computed from it"
