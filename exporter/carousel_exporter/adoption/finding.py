"""Finding a file's states: every reading of its axes, until one is proved."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from carousel_exporter.adoption import evidence, proof
from carousel_exporter.adoption.bounds import POSITIVE, Values
from carousel_exporter.adoption.continuity import continuity
from carousel_exporter.adoption.folding import fold
from carousel_exporter.adoption.influence import measure
from carousel_exporter.adoption.layouts import Hints, Layout, Search
from carousel_exporter.adoption.machine import Machine
from carousel_exporter.adoption.options import Options, StatePair
from carousel_exporter.adoption.pairing import (
    ENOUGH,
    Candidate,
    Known,
    candidates,
    combinations,
    with_twins,
)
from carousel_exporter.adoption.ports import Port, checked_axis, find
from carousel_exporter.adoption.stated import check_against_rivals, check_complete, match_stated
from carousel_exporter.adoption.trials import Trial, TrialError
from carousel_exporter.errors import ModelFileError, SettingsError
from carousel_exporter.verification import Difference

#: Rows and steps of the runs that decide branches.
_ROWS = (1, 2, 3, 7)
_STEPS = (1, 2, 5)
#: Runs in which each input is drawn anew, to see what changes.
_DRAWS = 4
#: Sets of pairs that are tried by running, and readings of axes that are looked into.
_MOST_SETS = 60
_MOST_LAYOUTS = 8
#: Scores that are closer than this differ by the order of names alone.
_CLOSE = 1.0


class NotProved(ModelFileError):
    """A reading of the axes ran, and no states of it could be proved."""


@dataclass(frozen=True)
class Finding:
    """A reading that was proved: the folded graph, how it is laid out, and its states.

    `forgotten` is what not feeding states back changes; None where the graph takes one step a run
    and nothing was chunked.
    """

    model: onnx.ModelProto
    layout: Layout
    pairs: tuple[Candidate, ...]
    chunked: proof.Chunked | None
    dtypes: Mapping[str, np.dtype[np.generic]]
    lengths: Port | None
    notes: tuple[str, ...]

    @property
    def successors(self) -> dict[str, str]:
        """The output of each state, by the state's input."""
        return {pair.input: pair.output for pair in self.pairs}


class Finder:
    """Looks for states in a graph whose constants are bound."""

    def __init__(
        self,
        model: onnx.ModelProto,
        ports: Sequence[Port],
        output_dtypes: Mapping[str, np.dtype[np.generic]],
        options: Options,
    ) -> None:
        self._model = model
        self._options = options
        self._lengths = _lengths_port(model.graph, ports)
        self._ports = [port for port in ports if port is not self._lengths]
        self._dtypes = {port.name: port.dtype for port in self._ports}
        self._output_dtypes = output_dtypes
        usual = {n: (float(a.mean()), float(a.std())) for n, a in options.samples.items()}
        self.values = Values(model.graph, options.seed, usual)
        self._trial = Trial(model)
        self._search = self._searching(self._ports)

    def find(self) -> Finding:
        """Return the first reading that is proved. Raises ModelFileError where none is."""
        if len(self._ports) < 2 and not self._options.contexts:
            raise ModelFileError(_no_state(self._model.graph))
        failures: list[ModelFileError] = []
        for layout in itertools.islice(self._layouts(), _MOST_LAYOUTS):
            try:
                return self._examine(layout)
            except NotProved as failure:
                failures.append(failure)
        if failures:
            sized = next((p for p in self._search.problems if "--size" in p), "")
            raise ModelFileError(str(failures[0])[:-1] + (f"; or {sized}." if sized else "."))
        told = self._search.problems or [
            "no reading of the open axes fits, or there are too many to try: fix some with --size"
        ]
        # What was tried first was the most plausible; an open size says what to do.
        problem = next((p for p in told if "--size" in p), told[0])
        raise ModelFileError(f"The file's axes can't be told: {problem}.")

    def _layouts(self) -> Iterator[Layout]:
        """Yield layouts. Where a tensor has a name of an axis twice, names of axes don't count."""
        if any(port.repeats_itself for port in self._ports):
            self._search = self._searching([port.apart() for port in self._ports])
        yield from self._search.layouts()

    def _searching(self, ports: Sequence[Port]) -> Search:
        return Search(ports, self._trial, self.values, self._hints(), self._lengths)

    def _hints(self) -> Hints:
        states: dict[str, int | None] = {}
        for pair in self._options.states:
            port = find(self._ports, pair.input, "--state")
            states[pair.input] = _stated_axis(port, pair)
        graph = self._model.graph
        layered = {p.name for p in self._ports if evidence.roles_taken(graph, p.name)}
        margins = {context.input: context.length for context in self._options.contexts}
        return Hints(states, frozenset(layered), margins)

    def _examine(self, layout: Layout) -> Finding:
        model = self._fold(layout)
        trial = Trial(model)
        steps = proof.STEPS if layout.steps else 1
        try:
            self._make_finite(layout, trial, steps)
            feeds = [self._search.feed(layout.inputs, 1, steps) for _ in range(_DRAWS)]
            influence = measure(trial, list(layout.inputs), feeds, self.values)
            known = Known(model, layout, influence, self._dtypes, self._output_dtypes)
            weighed = candidates(known, trial, feeds[0], self.values)
            self._refuse_reverse(model.graph, weighed)
            self._refuse_foresight(trial, model.graph, layout)
            return self._decide(model, trial, known, weighed)
        except TrialError as error:
            raise NotProved(f"The graph fails on a trial run: {error}.") from error

    def _fold(self, layout: Layout) -> onnx.ModelProto:
        """Fold, and take the result where it computes the same."""
        rows = _ROWS if layout.rows else (1,)
        steps = _STEPS if layout.steps else (1,)
        feeds = [self._search.feed(layout.inputs, b, t) for b in rows for t in steps]
        folded = fold(self._model, feeds)
        before, after = Trial(self._model), Trial(folded)
        for feed in feeds:
            try:
                equal = proof.worst(before.run(feed), after.run(feed)).excess <= 1
            except (TrialError, ModelFileError):
                continue
            if not equal:
                return self._model
        return folded

    def _make_finite(self, layout: Layout, trial: Trial, steps: int) -> None:
        """Draw positive numbers from now on, where others give what is no number."""
        for usual in ({}, {p.name: POSITIVE for p in self._ports if p.dtype.kind == "f"}):
            self.values.usual = usual | self.values.usual
            found = trial.run(self._search.feed(layout.inputs, 1, steps))
            bad = next((n for n, a in found.items() if not np.isfinite(a).all()), None)
            if bad is None:
                return
        raise NotProved(
            f"Output {bad!r} is not finite on random inputs, whether around 0 or {POSITIVE[0]:g}: "
            "give real inputs with --samples."
        )

    def _refuse_reverse(self, graph: onnx.GraphProto, weighed: Sequence[Candidate]) -> None:
        """Refuse a layer that runs backwards over time: its state comes from the future."""
        names = {c.input for c in weighed} | {pair.input for pair in self._options.states}
        taken = {node for name in names for node, _ in evidence.roles_taken(graph, name)}
        for node in evidence.reverse_layers(graph):
            label = next((t for t in taken if node.name and t.startswith(f"{node.name} ")), None)
            if label or any(t.startswith(f"{node.op_type} ") for t in taken if not node.name):
                raise ModelFileError(_reverse(node))

    def _refuse_foresight(self, trial: Trial, graph: onnx.GraphProto, layout: Layout) -> None:
        """Refuse answers that change when only later inputs do."""
        if not layout.steps:
            return
        wiring = proof.wire(layout, {}, self._lengths_spec())
        machine = Machine(trial, wiring)
        chunk = proof.draw_chunk(wiring, self._dtypes, self.values, rows=1, steps=proof.STEPS)
        found = proof.foresight(machine, chunk, {}, self.values)
        if found is None or found.excess <= 1:
            return
        reverse = evidence.reverse_layers(graph)
        if reverse:
            raise NotProved(_reverse(reverse[0]))
        raise NotProved(
            f"Output {found.tensor!r} at one step changes by {found.value:.1e} when only inputs of "
            "later steps do, so it can't be streamed: export the model without what looks ahead."
        )

    def _decide(
        self, model: onnx.ModelProto, trial: Trial, known: Known, weighed: Sequence[Candidate]
    ) -> Finding:
        notes = list(known.layout.notes)
        if self._options.states:
            pairs = match_stated(self._options.states, known, weighed)
            chunked = self._prove_stated(trial, known, pairs, weighed)
        else:
            pairs, chunked, more = self._propose(trial, known, weighed)
            notes += more
        lost = proof.forgetful(known.influence, {p.input: p.output for p in pairs})
        certain = {pair.input for pair in pairs if pair.certain}
        if set(lost) - certain:
            name = next(name for name in lost if name not in certain)
            raise NotProved(
                f"State {name!r} changes no answer, now or later (largest change 0): it is no "
                "state; leave it out, or make it a constant with --constant."
            )
        return Finding(
            model, known.layout, tuple(pairs), chunked, self._dtypes, self._lengths, tuple(notes)
        )

    def _prove_stated(
        self, trial: Trial, known: Known, pairs: Sequence[Candidate], weighed: Sequence[Candidate]
    ) -> proof.Chunked | None:
        check_against_rivals(known.influence, pairs, weighed)
        if not known.layout.steps:
            check_complete(pairs, weighed)
            self._check_operators(known, pairs)
            return None
        chunked = self._chunks(trial, known.layout, pairs)
        if not chunked.passed:
            raise NotProved(f"{_stated(pairs)}: {_unexplained(chunked.fed_back)}.")
        return chunked

    def _propose(
        self, trial: Trial, known: Known, weighed: Sequence[Candidate]
    ) -> tuple[list[Candidate], proof.Chunked | None, list[str]]:
        if not weighed and self._options.contexts:
            return [], None, []
        if not weighed:
            raise NotProved(_no_state(known.graph))
        names = list(known.layout.inputs)
        if known.layout.steps:
            return self._propose_by_chunks(trial, known, weighed, names)
        weighed = with_twins(known, weighed)
        sets = combinations([c for c in weighed if c.score >= ENOUGH], names)
        best, second = next(sets, None), next(sets, None)
        if best is None and self._options.contexts:
            return [], None, []
        if best is None:
            likely = max(weighed, key=lambda c: c.score)
            raise NotProved(
                f"Neither names nor numbers tell which inputs are states: the likeliest is "
                f"{likely.input!r}, which {likely.output!r} would follow; state them all, with "
                f"--state {likely.input}={likely.output}."
            )
        check_against_rivals(known.influence, best, weighed)
        self._check_operators(known, best)
        return best, None, list(_doubts(best, second))

    def _propose_by_chunks(
        self, trial: Trial, known: Known, weighed: Sequence[Candidate], names: Sequence[str]
    ) -> tuple[list[Candidate], proof.Chunked | None, list[str]]:
        """Take the first set of states with which chunks give what the whole sequence does."""
        closest: tuple[list[Candidate], Difference] | None = None
        for count, pairs in enumerate(combinations(weighed, names)):
            chunked = self._chunks(trial, known.layout, pairs)
            if chunked.passed:
                return pairs, chunked, []
            if closest is None or chunked.fed_back.excess < closest[1].excess:
                closest = pairs, chunked.fed_back
            if count + 1 == _MOST_SETS:
                break
        if closest is None:
            raise NotProved(_no_state(known.graph))
        told = ", ".join(f"{c.input}={c.output}" for c in closest[0])
        raise NotProved(
            f"No choice of states explains the future: with the closest ({told}), "
            f"{_unexplained(closest[1])}."
        )

    def _check_operators(self, known: Known, pairs: Sequence[Candidate]) -> None:
        """Refuse states with which recurrent operators don't go on where they stopped."""
        wiring = proof.wire(known.layout, {p.input: p.output for p in pairs}, self._lengths_spec())
        chunk = proof.draw_chunk(wiring, self._dtypes, self.values, rows=1, steps=proof.STEPS)
        states = proof.draw_states(wiring, self._dtypes, self.values, 1)
        found = continuity(known.model, wiring, chunk, states)
        if found is not None and found.excess > 1:
            raise ModelFileError(
                f"{_stated(pairs)}: with them fed back over {proof.STEPS} steps, {found.tensor!r} "
                f"of a recurrent layer differs by {found.value:.1e} from the same layer's in one "
                f"run, and {found.tolerance:.0e} is allowed."
            )

    def _chunks(self, trial: Trial, layout: Layout, pairs: Sequence[Candidate]) -> proof.Chunked:
        successors = {pair.input: pair.output for pair in pairs}
        wiring = proof.wire(layout, successors, self._lengths_spec())
        values = Values(self._model.graph, self._options.seed, self.values.usual)
        chunk = proof.draw_chunk(wiring, self._dtypes, values, rows=1, steps=proof.STEPS)
        states = proof.draw_states(wiring, self._dtypes, values, 1)
        return proof.in_chunks(Machine(trial, wiring), chunk, states)

    def _lengths_spec(self) -> tuple[str, np.dtype[np.generic]] | None:
        return (self._lengths.name, self._lengths.dtype) if self._lengths else None


def _lengths_port(graph: onnx.GraphProto, ports: Sequence[Port]) -> Port | None:
    """Return the input that takes each row's number of steps, where an operator takes it so."""
    for port in ports:
        if port.dtype.kind != "i" or port.rank != 1:
            continue
        same = {port.name}
        for node in graph.node:
            if node.op_type in {"Cast", "Identity"} and node.input[0] in same:
                same.update(node.output)
            is_recurrent = node.op_type in evidence.RECURRENT and len(node.input) > 4
            if is_recurrent and node.input[4] in same:
                return port
    return None


def _stated_axis(port: Port, pair: StatePair) -> int | None:
    """Return the batch axis that was stated. Raises SettingsError where it can't count rows."""
    if pair.batch_axis is None:
        return None
    axis = checked_axis(port, pair.batch_axis, "--state")
    if port.dims[axis] == 1 or isinstance(port.dims[axis], str):
        return axis
    raise SettingsError(
        f"--state {pair}: axis {axis} of {port.name!r} is fixed at {port.dims[axis]}, so it can't "
        "count rows; name an axis that is open, or 1."
    )


def _reverse(node: onnx.NodeProto) -> str:
    direction = next(a.s.decode() for a in node.attribute if a.name == "direction")
    return (
        f"The {direction} {node.op_type} layer {(node.name or node.output[0])!r} runs backwards in "
        "time, so its answers need inputs that have not come yet, and it can't be streamed: train "
        "or export the model with layers that run forwards."
    )


def _unexplained(difference: Difference) -> str:
    cuts = ", ".join(map(str, proof.CUTS))
    return (
        f"a sequence in chunks of {cuts} steps differs from the whole one by "
        f"{difference.value:.1e} in {difference.tensor!r}, and {difference.tolerance:.0e} is allowed"
    )


def _stated(pairs: Sequence[Candidate]) -> str:
    told = ", ".join(f"{c.input}={c.output}" for c in pairs)
    return f"The states {told} don't explain the future"


def _no_state(graph: onnx.GraphProto) -> str:
    inner = [n for n in graph.node if n.op_type in evidence.RECURRENT]
    begins = ""
    if inner:
        label = inner[0].name or inner[0].output[0]
        begins = f" (its {inner[0].op_type} {label!r} begins anew on each run)"
    return (
        f"The graph keeps no state{begins}: no output has the type and shape of an input, so there "
        "is nothing to carry from run to run; export it with its states as inputs and outputs."
    )


def _doubts(best: Sequence[Candidate], second: Sequence[Candidate] | None) -> Iterator[str]:
    """Say where another choice was as good but for the order of names."""
    if second is None:
        return
    close = sum(c.score for c in best) - sum(c.score for c in second) < _CLOSE
    if close and len(second) == len(best):
        other = [c for c in second if c not in best]
        told = ", ".join(f"{c.input}={c.output}" for c in other)
        yield f"Numbers and names can't tell this choice from {told}: the order decided, so check it."
