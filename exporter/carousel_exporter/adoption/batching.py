"""Whether rows may share a run: tried with numbers, whatever the shapes declare."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from carousel.v1 import manifest_pb2
from carousel_exporter.adoption import extremes
from carousel_exporter.equality import Difference, difference
from carousel_exporter.errors import ModelFileError
from carousel_exporter.manifest import TensorStatistics
from carousel_exporter.runner import Arrays, Runner
from carousel_exporter.samples import random_rows
from carousel_exporter.wording import tiny

#: Numbers of rows that are tried; what works for these works for all, short of spite.
ROWS: Final = (2, 3, 7)
#: Scales of random inputs: usual ones, and quiet ones as audio has.
_SCALES: Final = (1.0, 0.05)
_STEPS: Final = 4


@dataclass(frozen=True)
class Verdict:
    """Whether rows may share a run, and what was seen."""

    works: bool
    told: str


def try_batches(
    runner: Runner,
    statistics: Mapping[str, TensorStatistics],
    samples: Arrays,
    rng: np.random.Generator,
) -> Verdict:
    """Run rows together and each alone, and compare all answers and states.

    `samples` are real inputs (N, …), steps in a row, if there are any.
    """
    largest = 0.0
    for sessions in _sessions(runner.manifest, statistics, samples, rng):
        for rows in ROWS:
            try:
                found = _beside_alone(runner, sessions[:rows])
            except ModelFileError as error:
                return Verdict(works=False, told=_failure(rows, error))
            largest = max(largest, found.value)
            if found.excess > 1:
                told = (
                    f"{rows} rows together give {found.tensor!r} another value than alone, by "
                    f"{found.value:.1e}, and {found.tolerance:.0e} is allowed"
                )
                return Verdict(works=False, told=told)
    loud = _loud_beside_quiet(
        runner, random_rows(runner.manifest, statistics, rows=max(ROWS), steps=_STEPS, rng=rng)
    )
    if loud is not None and loud.excess > 1:
        told = (
            f"rows that are very loud and very quiet give {loud.tensor!r} another value together "
            f"than alone, by {loud.value:.1e}"
        )
        return Verdict(works=False, told=told)
    tried = ", ".join(map(str, ROWS))
    off = f": off by {tiny(largest)} at most" if largest else " exactly"
    told = f"{tried} rows together equal each alone{off}"
    return Verdict(works=True, told=told)


def _beside_alone(runner: Runner, sessions: Sequence[Arrays]) -> Difference:
    """Run sessions together and each alone; return the largest difference."""
    differences = [
        difference(name, alone[name], together[name], 1.0)
        for alone, together in _both_ways(runner, sessions)
        for name in alone
    ]
    return max(differences, key=lambda d: d.excess)


def _loud_beside_quiet(runner: Runner, sessions: Sequence[Arrays]) -> Difference | None:
    """Do the same, loosely, with rows far apart in size; None where such inputs don't run."""
    rows = [
        {name: extremes.times(array, np.full(len(array), scale)) for name, array in session.items()}
        for session, scale in zip(sessions, extremes.SCALES, strict=True)
    ]
    try:
        differences = [extremes.far_apart(*both) for both in _both_ways(runner, rows)]
    except ModelFileError:
        return None
    return max(differences, key=lambda d: d.excess)


def _both_ways(runner: Runner, sessions: Sequence[Arrays]) -> Iterator[tuple[Arrays, Arrays]]:
    """Yield the answers and the last state of each session alone, and of it among the others."""
    answers, states = runner.advance(sessions, [runner.new_state() for _ in sessions])
    for session, answer, state in zip(sessions, answers, states, strict=True):
        (own_answer,), (own_state,) = runner.advance([session], [runner.new_state()])
        yield own_answer | own_state, answer | state


def _failure(rows: int, error: ModelFileError) -> str:
    """Say that a run failed, and at which node, without ONNX Runtime's pages about it."""
    node = re.search(r"running (\w+) node\. Name:'([^']*)'", str(error))
    if node is None:
        return f"a run of {rows} rows fails: {str(error).rstrip('.')}"
    return f"a run of {rows} rows fails at the {node[1]} {node[2]!r}".removesuffix(" ''")


def _sessions(
    manifest: manifest_pb2.ModelManifest,
    statistics: Mapping[str, TensorStatistics],
    samples: Arrays,
    rng: np.random.Generator,
) -> Iterator[list[Arrays]]:
    for scale in _SCALES:
        sessions = random_rows(manifest, statistics, rows=max(ROWS), steps=_STEPS, rng=rng)
        yield [
            {n: (a * scale).astype(a.dtype) if a.dtype.kind == "f" else a for n, a in s.items()}
            for s in sessions
        ]
    if samples:
        length = min(len(array) for array in samples.values())
        starts = rng.integers(0, max(1, length - _STEPS + 1), max(ROWS))
        yield [{n: a[s : s + _STEPS] for n, a in samples.items()} for s in starts]
