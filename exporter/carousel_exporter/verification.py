"""Proving a model file by numbers: however a sequence is cut and batched, the answers are the same.

Shapes prove nothing: a graph may declare a batch and mix its rows, take lengths and ignore them,
or hand back one state under another's name. Each check runs the same sessions in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from carousel.v1 import manifest_pb2
from carousel_exporter.errors import ModelFileError, SettingsError
from carousel_exporter.manifest import load_model, read_manifest, read_statistics
from carousel_exporter.runner import Arrays, Runner
from carousel_exporter.samples import random_rows, real_rows

#: The largest difference allowed, relative to max(1, |reference|), by the width of a float; other
#: types must be equal. Single precision: what Carousel calls equal. The others: as many units in
#: the last place, give or take.
TOLERANCE: Final = {2: 1e-2, 4: 1e-5, 8: 1e-13}

Session = tuple[Arrays, Arrays]
"""All answers of a session, (T, …) each, and its last state."""


class Reference(Protocol):
    """A network in PyTorch that a model file must equal."""

    def misfit(self, manifest: manifest_pb2.ModelManifest) -> str:
        """Say how a model file's inputs and outputs differ from the network's; empty if not."""
        ...

    def advance(self, chunk: Arrays, state: Arrays | None) -> tuple[Arrays, Arrays]:
        """Run a chunk of one session, inputs and answers (T, …), states (…); None is a new one."""
        ...


@dataclass(frozen=True)
class Difference:
    """The largest difference found over some tensors: `value` against what `tolerance` allows.

    `value` is relative to max(1, |reference|), infinite where a number is not finite.
    """

    tensor: str
    value: float
    tolerance: float

    @property
    def excess(self) -> float:
        """How many times as large as allowed the difference is; above 1 it is too large."""
        if self.value == 0:
            return 0.0
        return self.value / self.tolerance if self.tolerance else float("inf")


@dataclass(frozen=True)
class Check:
    """One way of running the sessions, and how far answers and states (if compared) were off."""

    name: str
    outputs: Difference
    states: Difference | None

    @property
    def passed(self) -> bool:
        """Whether every difference is small enough."""
        return all(d.excess <= 1 for d in (self.outputs, self.states) if d is not None)


@dataclass(frozen=True)
class Report:
    """What was checked, and what could not be, in words."""

    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def failure(self) -> str:
        """Return the worst difference in a sentence."""

        def worst(check: Check) -> Difference:
            return max((d for d in (check.outputs, check.states) if d), key=lambda d: d.excess)

        check = max(self.checks, key=lambda check: worst(check).excess)
        difference = worst(check)
        return (
            f"{check.name}: {difference.tensor!r} is off by {difference.value:.1e}, and "
            f"{difference.tolerance:.0e} is allowed."
        )


def verify(
    path: Path,
    *,
    against: Reference | None = None,
    data: Path | None = None,
    rows: int = 5,
    steps: int = 48,
    seed: int = 0,
) -> Report:
    """Run `rows` sessions of `steps` steps in every way that must not matter, and compare.

    `against` is the network in PyTorch that the file must equal; `data` a CSV file to take inputs
    from instead of drawing them. Raises ModelFileError where the file can't be run at all.
    """
    if rows < 2 or steps < 2:
        raise SettingsError(f"Verifying takes 2 rows and 2 steps at least, not {rows} and {steps}.")
    if seed < 0:
        raise SettingsError(f"The seed must be at least 0, not {seed}.")
    model = load_model(path)
    manifest = read_manifest(model, path)
    statistics = read_statistics(model)
    runner = Runner(path, manifest)
    rng = np.random.default_rng(seed)
    if data is None:
        sessions = random_rows(manifest, statistics, rows=rows, steps=steps, rng=rng)
    else:
        sessions = real_rows(data, manifest, rows=rows, steps=steps, rng=rng)
    floors = {name: np.maximum(1.0, usual.get("scale", 1.0)) for name, usual in statistics.items()}
    reference = [run_whole(runner, [session])[0] for session in sessions]
    ways: dict[str, Callable[[], list[Session]]] = {
        "one step at a time": lambda: [run_in_chunks(runner, s, [1] * steps) for s in sessions],
        "random chunks": lambda: [
            run_in_chunks(runner, s, random_cuts(steps, rng)) for s in sessions
        ],
        "all rows in one batch": lambda: run_whole(runner, sessions),
        "ragged batches, random order": lambda: run_ragged(runner, sessions, rng),
    }
    if runner.manifest.max_batch == 1:
        del ways["all rows in one batch"], ways["ragged batches, random order"]
    if against is not None:
        ways["PyTorch"] = lambda: run_reference(against, runner, sessions, rng)
    checks = [compare(name, reference, way(), floors) for name, way in ways.items()]
    return Report(tuple(checks), tuple(_notes(manifest, against, checks)))


def run_whole(runner: Runner, sessions: Sequence[Arrays]) -> list[Session]:
    """Run whole sequences from new states, all rows together."""
    answers, states = runner.advance(sessions, [runner.new_state() for _ in sessions])
    return list(zip(answers, states, strict=True))


def run_in_chunks(runner: Runner, session: Arrays, cuts: Sequence[int]) -> Session:
    """Run one session in chunks of the given lengths, alone."""
    state, parts, start = runner.new_state(), [], 0
    for length in cuts:
        chunk = {name: array[start : start + length] for name, array in session.items()}
        (answer,), (state,) = runner.advance([chunk], [state])
        parts.append(answer)
        start += length
    return _joined(parts), state


def run_ragged(
    runner: Runner, sessions: Sequence[Arrays], rng: np.random.Generator
) -> list[Session]:
    """Run all sessions in chunks of different lengths, in batches of changing rows and order."""
    pending = [random_cuts(len(next(iter(s.values()))), rng) for s in sessions]
    position = [0] * len(sessions)
    states = [runner.new_state() for _ in sessions]
    parts: list[list[Arrays]] = [[] for _ in sessions]
    while open_rows := [row for row, cuts in enumerate(pending) if cuts]:
        rows = rng.permutation(open_rows)[: rng.integers(1, len(open_rows), endpoint=True)]
        chunks = []
        for row in rows:
            start, length = position[row], pending[row].pop()
            chunks.append({n: array[start : start + length] for n, array in sessions[row].items()})
            position[row] += length
        answers, after = runner.advance(chunks, [states[row] for row in rows])
        for row, answer, state in zip(rows, answers, after, strict=True):
            parts[row].append(answer)
            states[row] = state
    return [(_joined(row), state) for row, state in zip(parts, states, strict=True)]


def run_reference(
    network: Reference, runner: Runner, sessions: Sequence[Arrays], rng: np.random.Generator
) -> list[Session]:
    """Run sessions through PyTorch, each alone, in random chunks with the state carried over.

    States that the file hasn't are left out.
    """
    if misfit := network.misfit(runner.manifest):
        raise ModelFileError(f"The file is of another network: {misfit}.")
    results = []
    for session in sessions:
        state: Arrays | None = None
        parts, start = [], 0
        for length in random_cuts(len(next(iter(session.values()))), rng):
            chunk = {name: array[start : start + length] for name, array in session.items()}
            answer, state = network.advance(chunk, state)
            parts.append(answer)
            start += length
        states = {name: state[name] for name in runner.states if state and name in state}
        results.append((_joined(parts), states))
    return results


def random_cuts(length: int, rng: np.random.Generator) -> list[int]:
    """Cut a length into chunks of random lengths, none of them 0."""
    cuts = np.flatnonzero(rng.random(length - 1) < 0.25) + 1
    return [int(n) for n in np.diff([0, *cuts, length])]


def compare(
    name: str,
    reference: Sequence[Session],
    found: Sequence[Session],
    floors: dict[str, np.ndarray],
) -> Check:
    """Compare sessions: all answers, and the states after the last step."""
    worst: list[Difference | None] = [None, None]
    for expected, actual in zip(reference, found, strict=True):
        for kind in (0, 1):
            for tensor, value in actual[kind].items():
                new = difference(tensor, expected[kind][tensor], value, floors.get(tensor, 1.0))
                old = worst[kind]
                if old is None or new.excess > old.excess:
                    worst[kind] = new
    outputs, states = worst
    assert outputs is not None  # a manifest without outputs is refused before
    return Check(name, outputs, states)


def difference(
    tensor: str, reference: np.ndarray, value: np.ndarray, floor: np.ndarray | float
) -> Difference:
    """Return the largest difference between two arrays, relative to max(floor, |reference|).

    `floor` is 1, or the scale that the file notes for the tensor where that is larger: rounding
    errors of an answer in thousands are no smaller where it happens to cross 0.
    """
    is_float = reference.dtype.kind == "f"
    tolerance = TOLERANCE[reference.dtype.itemsize] if is_float else 0.0
    if reference.shape != value.shape:
        raise ModelFileError(
            f"{tensor!r} has the shape {list(reference.shape)} in one way of running and "
            f"{list(value.shape)} in another."
        )
    a, b = reference.astype(np.float64), value.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Difference(tensor, float("inf"), tolerance)
    relative = np.abs(a - b) / np.maximum(floor, np.abs(a))
    return Difference(tensor, float(relative.max(initial=0.0)), tolerance)


def _joined(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _notes(
    manifest: manifest_pb2.ModelManifest, against: Reference | None, checks: Sequence[Check]
) -> list[str]:
    notes = []
    if manifest.max_batch == 1:
        notes.append("max_batch is 1: rows were run alone, batches were not tried.")
    if manifest.form == manifest_pb2.MODEL_FORM_STEP and against is None:
        notes.append(
            "The graph takes one step a run: chunks are the same runs as steps, so this proves "
            "batching and repeatability; wrong weights or swapped states show with --against only."
        )
    if manifest.form == manifest_pb2.MODEL_FORM_SEQUENCE and not manifest.sequence_lens:
        notes.append("There is no sequence_lens: only rows of one length were batched together.")
    if against is not None and checks[-1].states is None:
        notes.append("The file's states have other names than PyTorch's: only answers compared.")
    return notes
