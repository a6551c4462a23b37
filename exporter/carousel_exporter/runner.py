"""Running a model file as a server does: chunks of sessions in, answers out, states carried.

Everything about the file is read off its manifest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from carousel.v1 import manifest_pb2
from carousel.wire import NUMPY_DTYPES
from carousel_exporter.errors import ModelFileError
from carousel_exporter.samples import filler
from carousel_exporter.wording import first_line

Arrays = dict[str, np.ndarray]
"""Arrays by name: a chunk (T, …), its answers (T, …), or a state without the batch axis."""


class Runner:
    """One model file in ONNX Runtime on the CPU. Raises ModelFileError where it can't be loaded."""

    def __init__(self, path: Path, manifest: manifest_pb2.ModelManifest) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's have no base of their own
            raise ModelFileError(f"ONNX Runtime can't load {path}: {first_line(error)}.") from error
        self.manifest = manifest
        self.outputs = [spec.name for spec in manifest.outputs]
        self.states = [spec.name for spec in manifest.states]
        self._new_states = [spec.output for spec in manifest.states]
        self._check_names()

    def new_state(self) -> Arrays:
        """Return the state of a new session."""
        return initial_state(self.manifest)

    def advance(
        self, chunks: Sequence[Arrays], states: Sequence[Arrays]
    ) -> tuple[list[Arrays], list[Arrays]]:
        """Run one chunk of each of N sessions, in as few runs as the model allows.

        Chunks may differ in length. Returns N answers and N new states.
        """
        answers: list[Arrays] = [{} for _ in chunks]
        after = list(states)
        for rows in self._groups([_length(chunk) for chunk in chunks]):
            run = self._run_steps if self._is_step_form else self._run_together
            for row, answer, state in zip(
                rows, *run([chunks[r] for r in rows], [states[r] for r in rows]), strict=True
            ):
                answers[row], after[row] = answer, state
        return answers, after

    @property
    def _is_step_form(self) -> bool:
        return self.manifest.form == manifest_pb2.MODEL_FORM_STEP

    def _groups(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yield rows that may share a run: `max_batch` at most, of one length if need be."""
        ragged = self._is_step_form or bool(self.manifest.sequence_lens)
        kinds = [list(range(len(lengths)))]
        if not ragged:
            kinds = [[r for r, n in enumerate(lengths) if n == size] for size in sorted({*lengths})]
        for rows in kinds:
            most = self.manifest.max_batch or len(rows)
            yield from (rows[start : start + most] for start in range(0, len(rows), most))

    def _run_together(
        self, chunks: list[Arrays], states: list[Arrays]
    ) -> tuple[list[Arrays], list[Arrays]]:
        """Run chunks in one run of a graph that loops over time, padded to the longest.

        The padding holds values that would tell: a server pads with zeros, which a faulty graph
        may well ignore by luck.
        """
        lengths = np.array([_length(chunk) for chunk in chunks], np.int32)  # (B,)
        feeds: Arrays = {}
        for spec in self.manifest.inputs:
            shape = (int(lengths.max()), len(chunks), *spec.shape)
            feeds[spec.name] = filler(spec, shape)  # (T, B, …)
            for row, chunk in enumerate(chunks):
                feeds[spec.name][: lengths[row], row] = chunk[spec.name]
        if self.manifest.sequence_lens:
            feeds[self.manifest.sequence_lens] = lengths
        outputs, after = self._run(feeds, states)
        rows = range(len(chunks))
        for name, array in outputs.items():
            if array.ndim < 2 or array.shape[:2] != (int(lengths.max()), len(chunks)):
                raise ModelFileError(
                    f"Output {name!r} of {len(chunks)} rows of {lengths.max()} steps has the shape "
                    f"{list(array.shape)}, not [{lengths.max()}, {len(chunks)}, …]."
                )
        return [{n: a[: lengths[r], r] for n, a in outputs.items()} for r in rows], after

    def _run_steps(
        self, chunks: list[Arrays], states: list[Arrays]
    ) -> tuple[list[Arrays], list[Arrays]]:
        """Run chunks step by step through a graph of one step; rows that are done drop out."""
        collected: list[dict[str, list[np.ndarray]]] = [
            {name: [] for name in self.outputs} for _ in chunks
        ]
        after = list(states)
        for step in range(max(_length(chunk) for chunk in chunks)):
            rows = [row for row, chunk in enumerate(chunks) if step < _length(chunk)]
            feeds = {
                spec.name: np.stack([chunks[row][spec.name][step] for row in rows])  # (B, …)
                for spec in self.manifest.inputs
            }
            outputs, new = self._run(feeds, [after[row] for row in rows])
            for name, array in outputs.items():
                if array.shape[:1] != (len(rows),):
                    raise ModelFileError(
                        f"Output {name!r} of {len(rows)} rows has the shape {list(array.shape)}, "
                        f"not [{len(rows)}, …]."
                    )
            for place, row in enumerate(rows):
                after[row] = new[place]
                for name, array in outputs.items():
                    collected[row][name].append(array[place])
        return [{n: np.stack(steps) for n, steps in row.items()} for row in collected], after

    def _run(self, feeds: Arrays, states: list[Arrays]) -> tuple[Arrays, list[Arrays]]:
        for name in self.states:
            feeds[name] = np.stack([state[name] for state in states])  # (B, …)
        try:
            values = self._session.run(self.outputs + self._new_states, feeds)
        except Exception as error:  # as above
            raise ModelFileError(
                f"The model failed on a run of {len(states)} rows: {first_line(error)}."
            ) from error
        outputs = dict(zip(self.outputs, values, strict=False))
        new = values[len(self.outputs) :]
        for name, array in zip(self.states, new, strict=True):
            if array.shape != feeds[name].shape:
                raise ModelFileError(
                    f"State {name!r} went in with the shape {list(feeds[name].shape)} and came out "
                    f"with {list(array.shape)}."
                )
        rows = range(len(states))
        return outputs, [dict(zip(self.states, (a[r] for a in new), strict=True)) for r in rows]

    def _check_names(self) -> None:
        """Raise ModelFileError where manifest and graph don't name the same inputs and outputs."""
        lengths = self.manifest.sequence_lens
        declared = {spec.name for spec in self.manifest.inputs} | {*self.states}
        declared |= {lengths} if lengths else set()
        actual = {value.name for value in self._session.get_inputs()}
        if declared != actual:
            raise ModelFileError(
                f"The graph's inputs are {', '.join(sorted(actual))}, and the manifest's are "
                f"{', '.join(sorted(declared))}."
            )
        actual = {value.name for value in self._session.get_outputs()}
        missing = [name for name in self.outputs + self._new_states if name not in actual]
        if missing:
            raise ModelFileError(
                f"The manifest names the output {missing[0]!r}, and the graph's are "
                f"{', '.join(sorted(actual))}."
            )


def _length(chunk: Arrays) -> int:
    return len(next(iter(chunk.values())))


def initial_state(manifest: manifest_pb2.ModelManifest) -> Arrays:
    """Return the state of a new session. Raises ModelFileError where it has a wrong size."""
    state: Arrays = {}
    for spec in manifest.states:
        dtype, shape = NUMPY_DTYPES[spec.dtype], tuple(spec.shape)
        if spec.initial and len(spec.initial) != math.prod(shape) * np.dtype(dtype).itemsize:
            raise ModelFileError(
                f"The initial value of state {spec.name!r} has {len(spec.initial)} bytes, and "
                f"{dtype}{list(shape)} takes {math.prod(shape) * np.dtype(dtype).itemsize}."
            )
        state[spec.name] = (
            np.frombuffer(spec.initial, dtype).reshape(shape)
            if spec.initial
            else np.zeros(shape, dtype)
        )
    return state
