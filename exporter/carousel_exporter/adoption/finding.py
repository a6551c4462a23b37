"""Finding a file's states: every reading of its axes, until one is proved."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from carousel_exporter.adoption import evidence, proof
from carousel_exporter.adoption.bounds import POSITIVE, Values
from carousel_exporter.adoption.chance import refuse_chance
from carousel_exporter.adoption.choosing import Chooser, NotProved, no_state
from carousel_exporter.adoption.folding import fold
from carousel_exporter.adoption.future import refuse_foresight, refuse_reverse
from carousel_exporter.adoption.influence import measure
from carousel_exporter.adoption.layouts import Hints, Layout, Search
from carousel_exporter.adoption.machine import Machine
from carousel_exporter.adoption.options import Options, StatePair
from carousel_exporter.adoption.pairing import Candidate, Known, candidates
from carousel_exporter.adoption.ports import Port, checked_axis, find
from carousel_exporter.adoption.trials import Trial, TrialError
from carousel_exporter.errors import ModelFileError, SettingsError

#: Rows and steps of the runs that decide branches.
_ROWS = (1, 2, 3, 7)
_STEPS = (1, 2, 5)
#: Runs in which each input is drawn anew, to see what changes.
_DRAWS = 4
#: Readings of axes that are looked into.
_MOST_LAYOUTS = 8


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
            raise ModelFileError(no_state(self._model.graph))
        failures: list[tuple[Layout, ModelFileError]] = []
        for layout in itertools.islice(self._layouts(), _MOST_LAYOUTS):
            try:
                return self._examine(layout)
            except NotProved as failure:
                failures.append((layout, failure))
        if failures:
            layout, first = failures[0]
            hint = self._size_hint(layout)
            raise ModelFileError(f"{first}"[:-1] + f"; or {hint}." if hint else f"{first}")
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

    def _size_hint(self, layout: Layout) -> str:
        """Return what to say of a time axis that no output follows: it may be no time axis."""
        if any(axes.time is not None for axes in layout.outputs.values()):
            return ""
        flags = [f"--size {name}:{axes.time}=" for name, axes in layout.inputs.items()]
        return next((p for p in self._search.problems if any(f in p for f in flags)), "")

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
            refuse_chance(trial, model.graph, feeds)
            influence = measure(trial, list(layout.inputs), feeds, self.values)
            known = Known(model, layout, influence, self._dtypes, self._output_dtypes)
            weighed = candidates(known, trial, feeds[0], self.values)
            stated = {pair.input for pair in self._options.states}
            refuse_reverse(model.graph, stated | {c.input for c in weighed})
            if layout.steps:
                machine = Machine(trial, proof.wire(layout, {}, self._lengths_spec()))
                refuse_foresight(machine, model.graph, self._dtypes, self.values)
            pairs, chunked, doubts = Chooser(
                trial,
                known,
                weighed,
                options=self._options,
                values=self.values,
                lengths=self._lengths_spec(),
            ).choose()
        except TrialError as error:
            raise NotProved(f"The graph fails on a trial run: {error}.") from error
        notes = (*layout.notes, *doubts)
        return Finding(model, layout, tuple(pairs), chunked, self._dtypes, self._lengths, notes)

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
