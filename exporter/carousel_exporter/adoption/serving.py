"""The canonical file in the making: built in every form that may do, proved beside the original."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from carousel.v1 import manifest_pb2
from carousel_exporter import manifest as manifests
from carousel_exporter.adoption import describing
from carousel_exporter.adoption.batching import Verdict, try_batches
from carousel_exporter.adoption.canonical import Canonical
from carousel_exporter.adoption.control import decided_by_values
from carousel_exporter.adoption.finding import Finding
from carousel_exporter.adoption.lengths import with_lengths
from carousel_exporter.adoption.machine import Machine, Wiring
from carousel_exporter.adoption.preparing import Case
from carousel_exporter.adoption.rebatching import Form, forms
from carousel_exporter.adoption.trials import Arrays, TrialError
from carousel_exporter.driving import Session, random_cuts, run_in_chunks
from carousel_exporter.equality import Check, compare
from carousel_exporter.errors import ModelFileError, SettingsError, VerificationError
from carousel_exporter.runner import Runner
from carousel_exporter.samples import random_rows
from carousel_exporter.verification import Report, verify

#: Sessions and steps that the new file and the original are compared on.
_ROWS: Final = 3
_STEPS: Final = 24


@dataclass(frozen=True)
class Served:
    """A canonical file that was written and proved."""

    path: Path
    model: onnx.ModelProto
    manifest: manifest_pb2.ModelManifest
    wiring: Wiring
    batching: str
    checks: tuple[Check, ...]
    notes: tuple[str, ...]


class _OriginalError(ModelFileError):
    """The original itself does no good where it is driven by hand."""


class Workshop:
    """Builds and proves the canonical form of one original."""

    def __init__(self, case: Case, found: Finding) -> None:
        self._case = case
        self._found = found
        self._dtypes = {**case.output_dtypes, **found.dtypes}
        self._values = case.finder.values

    def best(self, wiring: Wiring, path: Path) -> Served:
        """Return the first form whose rows may share a run, or else the file's own, one row a run.

        Raises VerificationError where none equals the original.
        """
        first: tuple[Form, Verdict] | None = None
        failure = ""
        unfit: _OriginalError | None = None
        chosen: tuple[Form, Verdict] | None = None
        rows = self._found.layout.rows
        for form in forms(self._found.model, wiring, self._dtypes, self._values, rows=rows):
            manifest = self._write(form.canonical, form.wiring, path, max_batch=1)
            try:
                checks = self._beside_original(form.wiring, Runner(path, manifest))
                wrong = next((c for c in checks if not c.passed), None)
                if wrong is not None:
                    failure = failure or Report((wrong,), ()).failure()
                    continue
                manifest.max_batch = 0
                verdict = self._try_batches(form, Runner(path, manifest))
            except _OriginalError as error:
                unfit = unfit or error
                continue
            except (ModelFileError, TrialError) as error:
                failure = failure or str(error)
                continue
            first = first or (form, verdict)
            if verdict.works:
                chosen = form, verdict
                break
        if first is None and unfit is not None and not failure:
            raise unfit
        if first is None:
            raise VerificationError(
                f"The canonical form of {self._case.original.path} differs from it: {failure}"
            )
        return self._finish(*(chosen or first), first[1], path)

    def _try_batches(self, form: Form, runner: Runner) -> Verdict:
        w = form.wiring
        rowless = [n for n, axes in (*w.inputs.items(), *w.states.items()) if axes.batch is None]
        if rowless:
            return Verdict(works=False, told=f"{rowless[0]!r} has no axis that could count rows")
        free = [w.lengths[0]] if w.lengths else []
        decided = decided_by_values(self._found.model.graph, free)
        if decided:
            told = f"{decided} comes from the values of all rows of a run together"
            return Verdict(works=False, told=told)
        samples = self._samples(runner.manifest)
        return try_batches(runner, self._statistics(runner.manifest), samples, self._rng())

    def _finish(self, form: Form, verdict: Verdict, first: Verdict, path: Path) -> Served:
        """Prove the chosen form in every way that there is, and keep what passed."""
        told = verdict.told
        if verdict.works and form.mended:
            told = f"{told}, after {form.mended} (as it was: {first.told})"
        problem = ""
        for canonical, most in self._variants(form.canonical, verdict):
            manifest = self._write(canonical, form.wiring, path, max_batch=most)
            try:
                report = verify(path)
                checks = self._beside_original(form.wiring, Runner(path, manifest))
            except (ModelFileError, TrialError) as error:
                problem = str(error)
                continue
            # What `verify` can't see in a graph of one step, the original beside it shows.
            notes = report.notes if canonical.time else ()
            whole = Report((*report.checks, *checks), notes)
            if whole.passed:
                if verdict.works and most == 1:
                    told = f"rows alone are right, ragged batches are not: {problem.rstrip('.')}"
                model = onnx.load(path)
                return Served(path, model, manifest, form.wiring, told, whole.checks, whole.notes)
            problem = whole.failure()
        raise VerificationError(
            f"{self._case.original.path} was not adopted, because the new file's numbers differ: "
            f"{problem}"
        )

    def _variants(self, canonical: Canonical, verdict: Verdict) -> Iterator[tuple[Canonical, int]]:
        """Yield what to try, the most useful first: rows of any length, of one length, alone."""
        if verdict.works:
            ragged = with_lengths(canonical)
            if ragged is not None:
                yield ragged, 0
            yield canonical, 0
        yield canonical, 1

    def _write(
        self, canonical: Canonical, wiring: Wiring, path: Path, *, max_batch: int
    ) -> manifest_pb2.ModelManifest:
        initial = describing.initial_states(
            canonical, wiring, self._dtypes, self._case.options.initial
        )
        manifest = describing.describe(self._case, canonical, self._dtypes, initial)
        manifest.max_batch = max_batch
        model = onnx.ModelProto()
        model.CopyFrom(canonical.model)
        onnx.checker.check_model(model)
        manifests.attach(model, manifest, self._statistics(manifest))
        onnx.save(model, path)
        return manifest

    def _beside_original(self, wiring: Wiring, runner: Runner) -> list[Check]:
        """Compare with the original, driven by hand: random sessions, and real samples."""
        rng = self._rng()
        sessions = random_rows(
            runner.manifest, self._statistics(runner.manifest), rows=_ROWS, steps=_STEPS, rng=rng
        )
        found = [self._compare("the original, by hand", wiring, runner, sessions, rng)]
        samples = self._samples(runner.manifest)
        if samples:
            found.append(self._compare("the original, on samples", wiring, runner, [samples], rng))
        return found

    def _compare(
        self,
        name: str,
        wiring: Wiring,
        runner: Runner,
        sessions: list[Arrays],
        rng: np.random.Generator,
    ) -> Check:
        reference = [self._by_hand(wiring, runner, session) for session in sessions]
        actual = [
            run_in_chunks(runner, s, random_cuts(len(next(iter(s.values()))), rng))
            for s in sessions
        ]
        return compare(name, reference, actual, {})

    def _by_hand(self, wiring: Wiring, runner: Runner, session: Arrays) -> Session:
        """Run a session through the original: state fed back, context put before, one row."""
        names = {s.name: self._source(s.name, wiring) for s in runner.manifest.states}
        state = runner.new_state()
        states = {names[name]: array[None] for name, array in state.items()}
        chunk = {name: array[:, None] for name, array in session.items()}
        try:
            answers, after = Machine(self._case.reference, wiring).advance(chunk, states)
        except TrialError as error:
            raise self._unfit(f"fails: {error}") from error
        own = {name: array[:, 0] for name, array in answers.items()}
        last = {name: after[source][0] for name, source in names.items()}
        bad = next((n for n, a in (own | last).items() if not _is_finite(a)), None)
        if bad is not None:
            raise self._unfit(f"gives {bad!r} values that are not finite")
        for spec in runner.manifest.states:
            if f"{spec.output}_answer" in runner.outputs:
                own[f"{spec.output}_answer"] = self._history(
                    wiring, chunk, states, names[spec.name]
                )
        return own, last

    def _unfit(self, what: str) -> _OriginalError:
        return _OriginalError(
            f"Driven by hand over {_STEPS} steps from a new session's state, "
            f"{self._case.original.path} itself {what}; if that state must not be zeros, give it "
            "with --init, and if inputs must be like real ones, give them with --samples."
        )

    def _history(self, wiring: Wiring, chunk: Arrays, states: Arrays, name: str) -> np.ndarray:
        """Return a state after each step (T, …), which is the answer of a graph without others."""
        machine, seen = Machine(self._case.reference, wiring), []
        for step in range(len(next(iter(chunk.values())))):
            _, states = machine.advance({n: a[step : step + 1] for n, a in chunk.items()}, states)
            seen.append(states[name][0])
        return np.stack(seen)

    def _source(self, name: str, wiring: Wiring) -> str:
        """Return the original input whose state, or whose context, a state is."""
        if name in wiring.states:
            return name
        return next(tail for tail in wiring.tails if name.startswith(f"{tail}_context"))

    def _samples(self, manifest: manifest_pb2.ModelManifest) -> Arrays:
        """Return the real inputs that were given, cut to one length, in the types of the inputs."""
        given = self._case.options.samples
        if not given:
            return {}
        names = [spec.name for spec in manifest.inputs]
        if {*names} != {*given}:
            raise SettingsError(
                f"--samples are given for {', '.join(map(repr, given))}, and the inputs are "
                f"{', '.join(map(repr, names))}: give all of them."
            )
        length = min(len(array) for array in given.values())
        return {
            spec.name: self._shaped(given[spec.name][:length], spec) for spec in manifest.inputs
        }

    def _shaped(self, array: np.ndarray, spec: manifest_pb2.TensorSpec) -> np.ndarray:
        """Return samples (N, …) in the type and shape of an input's steps."""
        if array[0].size != math.prod(spec.shape):
            raise SettingsError(
                f"--samples gives {spec.name!r} steps of the shape {list(array.shape[1:])}, and a "
                f"step has {list(spec.shape)}."
            )
        return array.reshape(len(array), *spec.shape).astype(self._dtypes[spec.name])

    def _statistics(
        self, manifest: manifest_pb2.ModelManifest
    ) -> dict[str, manifests.TensorStatistics]:
        """Return what usual values of the inputs are like, where they aren't standard normal."""
        usual = self._values.usual
        return {
            spec.name: {"mean": [usual[spec.name][0]], "scale": [usual[spec.name][1]]}
            for spec in manifest.inputs
            if spec.name in usual
        }

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(self._case.options.seed)


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
