"""Ways of running the same sessions that must not matter: whole, cut up, batched, in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from carousel.v1 import manifest_pb2
from carousel_exporter.errors import ModelFileError
from carousel_exporter.runner import Arrays, Runner

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

    def in_double(self) -> Reference | None:
        """Return the same network in double precision, where it can be had."""
        ...


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


def _joined(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
