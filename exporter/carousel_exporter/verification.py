"""Proving a model file by numbers: however a sequence is cut and batched, the answers are the same.

Shapes prove nothing: a graph may declare a batch and mix its rows, take lengths and ignore them,
or hand back one state under another's name. Each check runs the same sessions in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carousel.v1 import manifest_pb2
from carousel_exporter.driving import (
    Reference,
    Session,
    random_cuts,
    run_in_chunks,
    run_ragged,
    run_reference,
    run_whole,
)
from carousel_exporter.equality import Check, Difference, compare
from carousel_exporter.errors import SettingsError
from carousel_exporter.manifest import load_model, read_manifest, read_statistics
from carousel_exporter.rounding import UNSTABLE
from carousel_exporter.runner import Runner
from carousel_exporter.samples import random_rows, real_rows
from carousel_exporter.stability import Measured


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
    found = {name: way() for name, way in ways.items()}
    checks = [compare(name, reference, some, floors) for name, some in found.items()]
    notes = _notes(manifest, against, checks)
    if not all(check.passed for check in checks):
        network = Measured(runner, against, sessions, floors, rng)
        noise = network.along_sequences()
        if noise.largest > UNSTABLE:
            checks = [compare(name, reference, some, floors, noise) for name, some in found.items()]
            checks += network.compare_steps()
            notes.append(network.note(noise))
    return Report(tuple(checks), tuple(notes))


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
