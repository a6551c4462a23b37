"""A program: something that PyTorch can call, with names for the tensors in and out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils import _pytree

from carousel_exporter.errors import CheckpointError, SettingsError
from carousel_exporter.programs.examples import Example
from carousel_exporter.wording import counted, first_line


class Kind(Enum):
    """Where a program comes from, which decides how it is exported."""

    TORCHSCRIPT = "TorchScript"
    EXPORTED = "torch.export"
    MODULE = "module"


@dataclass(frozen=True)
class Program:
    """A network as code, called with tensors alone.

    `call` takes the arguments of `arguments`, positional and by name, whose tensors are `inputs`
    in order. `outputs` names the tensors that it returns. `examples` says of the inputs what is
    known. `label` is what errors call it, `origin` what is noted of it in the file.
    """

    kind: Kind
    call: Any
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    label: str
    examples: tuple[Example, ...] = ()
    exported: ExportedProgram | None = None
    origin: dict[str, str] = field(default_factory=dict)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Call it with the tensors of `inputs` in order; return those that it answers, in order.

        Raises CheckpointError where the call fails.
        """
        structure = _pytree.tree_structure(self.arguments)
        positional, named = _pytree.tree_unflatten(list(inputs), structure)
        with torch.inference_mode(), quiet():
            try:
                answer = self.call(*positional, **named)
            except Exception as error:  # it is somebody's code, and may raise anything
                shapes = ", ".join(str(list(each.shape)) for each in inputs)
                raise CheckpointError(
                    f"{self.label} failed on inputs of the shapes {shapes}: "
                    f"{type(error).__name__}: {first_line(error)}."
                ) from error
        return [leaf for leaf in _pytree.tree_leaves(answer) if isinstance(leaf, Tensor)]

    def example_tensors(self) -> list[Tensor]:
        """Return the tensors of the arguments, in the order of `inputs`."""
        return list(_pytree.tree_leaves(self.arguments))


def name_outputs(program: Program, names: Sequence[str]) -> tuple[str, ...]:
    """Run a program to see how many tensors it answers, and name them: as told, or out0, out1, ….

    Raises SettingsError where there are more or fewer names, or one is taken.
    """
    answers = program.run(program.example_tensors())
    if not names:
        return tuple(f"out{place}" for place in range(len(answers)))
    if len(names) != len(answers):
        raise SettingsError(
            f"--outputs must name the {counted(len(answers), 'tensor')} that {program.label} "
            f"answers, not {len(names)}."
        )
    used = [*program.inputs, *names]
    twice = next((name for name in names if used.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(
            f"--outputs gives the name {twice!r}, which another input or output has: choose one "
            f"of its own, {twice}_out say."
        )
    return tuple(names)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what PyTorch says of its own inner life from a user who can't act on it."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
