"""The same networks behind a server: one step of every sequence at a time, in a session group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx

import carousel_client as carousel
from carousel_exporter.conversion import Labels, build_model, describe
from carousel_exporter.files import replacing
from carousel_exporter.manifest import attach
from carousel_exporter.source import Source
from examples.memory.grid import Grid, Run
from examples.memory.problems import PROBLEMS, Array
from examples.memory.training import answer, test_sequences

_COLUMNS: Final = ("value", "flag")


@dataclass(frozen=True)
class Comparison:
    """A network's score on its test sequences in PyTorch, and the same when streamed.

    `steps` counts those of all sequences; `largest` is the largest difference of two answers.
    """

    run: Run
    steps: int
    alone: float
    streamed: float
    largest: float

    @property
    def equal(self) -> bool:
        """Whether the scores are the same, to the digits that are told."""
        words = PROBLEMS[self.run.problem].words
        return words(self.alone) == words(self.streamed)


def repository(models: Path, seed: int) -> Path:
    """Return where the model files of a seed lie."""
    return models / f"seed{seed}"


def export(grid: Grid, models: Path) -> Iterator[Run]:
    """Make a model file of each trained network, and yield it when its file is there.

    What `carousel-export convert` does, but for its check on random inputs: a network that has
    learnt to fall to one of two sides can be balanced between them by inputs that its problem never
    gives, and single precision's last digit then decides. `compare` checks on the problem's own.
    """
    for run in grid.runs():
        source = Source(grid.network(run), columns=_COLUMNS, answers=(run.problem,))
        told = f"{PROBLEMS[run.problem].title} for {run.lag} steps"
        model = build_model(source)
        path = repository(models, run.seed) / run.name / "1" / "model.onnx"
        attach(model, describe(source, Labels(run.name, told)), {})
        with replacing(path) as temporary:
            onnx.save(model, temporary)
        yield run


def compare(grid: Grid, runs: Sequence[Run], address: str) -> Iterator[Comparison]:
    """Ask every network again, through a server. Raises carousel.CarouselError."""
    with carousel.connect(address) as client:
        for run in runs:
            problem = PROBLEMS[run.problem]
            unseen = test_sequences(problem, run.lag, grid.settings, seed=run.seed)
            alone = answer(grid.network(run), unseen.x)
            streamed = stream(client, run.name, unseen.x)
            yield Comparison(
                run,
                steps=unseen.x.shape[0] * unseen.x.shape[1],
                alone=problem.score(alone, unseen.y),
                streamed=problem.score(streamed, unseen.y),
                largest=float(np.abs(alone - streamed).max()),
            )


def stream(client: carousel.Client, model: str, x: Array) -> Array:
    """Stream sequences (T, B, 2), a session each; return their last answers, (B,)."""
    with client.open_many(model, x.shape[1]) as group:
        for step in x:
            y: Array = group.step(step)  # (B, 2) -> (B, 1): one step of B sessions, one message
    return y[:, 0]
