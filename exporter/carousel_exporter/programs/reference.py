"""A program as the reference that its model file is proved against: one session, chunk by chunk."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from carousel.v1.manifest_pb2 import ModelManifest
from carousel_exporter.adoption import Proposal, TensorAxes
from carousel_exporter.errors import ModelFileError
from carousel_exporter.programs.program import Program
from carousel_exporter.runner import Arrays, initial_state

SEQUENCE = "sequence"


class ProgramReference:
    """Runs a program with its state fed back, in its own shapes.

    `proposal` says which of its tensors are states, and which axes count rows and steps.
    """

    def __init__(self, program: Program, proposal: Proposal, manifest: ModelManifest) -> None:
        self._program = program
        self._pairs = {pair.input: pair for pair in proposal.pairs}
        self._inputs = {axes.name: axes for axes in proposal.inputs}
        self._outputs = {axes.name: axes for axes in proposal.outputs}
        self._shapes = {spec.name: tuple(spec.shape) for spec in manifest.outputs}
        self._shapes |= {spec.name: tuple(spec.shape) for spec in manifest.states}
        self._initial = initial_state(manifest)
        self._in_steps = proposal.form != SEQUENCE
        lost = [n for n in program.inputs if n not in self._pairs and n not in self._inputs]
        if lost:
            raise ModelFileError(
                f"The input {lost[0]!r} of {program.label} is neither a state nor sent by clients: "
                "fix its value in the program, and convert again."
            )

    def misfit(self, manifest: ModelManifest) -> str:  # noqa: ARG002 - as the protocol has it
        """Say nothing: the file was made of this program."""
        return ""

    def in_double(self) -> None:
        """Return None: a program may hold types that nothing turns into another."""

    def advance(self, chunk: Arrays, state: Arrays | None) -> tuple[Arrays, Arrays]:
        """Run a chunk of one session: inputs and answers (T, …), states (…)."""
        state = self._initial if state is None else state
        if not self._in_steps:
            return self._run(chunk, state)
        answers: list[Arrays] = []
        for step in range(len(next(iter(chunk.values())))):
            here = {name: array[step : step + 1] for name, array in chunk.items()}
            answer, state = self._run(here, state)
            answers.append(answer)
        return {n: np.concatenate([a[n] for a in answers]) for n in answers[0]}, state

    def _run(self, chunk: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        """Call the program once: steps (T, …) in, with T = 1 where it takes one at a time."""
        tensors = [self._tensor(name, chunk, state) for name in self._program.inputs]
        found = dict(zip(self._program.outputs, self._program.run(tensors), strict=True))
        answers = {
            name: self._steps(axes, found[name].numpy()) for name, axes in self._outputs.items()
        }
        new = {
            name: found[pair.output].numpy().reshape(self._shapes[name])
            for name, pair in self._pairs.items()
        }
        return answers, new

    def _tensor(self, name: str, chunk: Arrays, state: Arrays) -> Tensor:
        if name in self._pairs:
            return torch.tensor(state[name].reshape(self._pairs[name].shape))
        axes, array = self._inputs[name], chunk[name]
        others = [size for size in axes.shape if isinstance(size, int)]
        if axes.time_axis is None:
            return torch.tensor(array.reshape([1 if s == "B" else s for s in axes.shape]))
        ordered = np.moveaxis(array.reshape(len(array), *others), 0, _time_without_rows(axes))
        sizes = [{"T": len(array), "B": 1}.get(str(size), size) for size in axes.shape]
        return torch.tensor(np.ascontiguousarray(ordered).reshape(sizes))

    def _steps(self, axes: TensorAxes, array: np.ndarray) -> np.ndarray:
        """Bring an output into the shape (T, …) of the model file."""
        shape = self._shapes[axes.name]
        if axes.time_axis is None:
            return array.reshape(1, *shape)
        return np.moveaxis(array, axes.time_axis, 0).reshape(-1, *shape)


def _time_without_rows(axes: TensorAxes) -> int:
    """Return the place of the time axis among the axes but that of rows."""
    assert axes.time_axis is not None
    before = axes.batch_axis is not None and axes.batch_axis < axes.time_axis
    return axes.time_axis - before
