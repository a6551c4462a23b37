"""The grid: every problem, network, lag and seed; each finished training is a file of its own.

So a grid that was interrupted goes on where it was, and a finished one is only read.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from carousel_exporter.files import replacing
from carousel_exporter.network import RecurrentNetwork
from carousel_exporter.tensorfile import load_tensors_safely
from examples.memory.networks import NETWORKS, architecture, build
from examples.memory.problems import PROBLEMS
from examples.memory.training import Settings, answer, test_sequences, train


@dataclass(frozen=True)
class Run:
    """One training: a key of PROBLEMS, one of NETWORKS, a lag in steps, and a seed."""

    problem: str
    network: str
    lag: int
    seed: int

    @property
    def name(self) -> str:
        """Return the name of its files, and of its model at the server."""
        return f"{self.problem}-{self.network}-{self.lag}-seed{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What a training came to: its score on test sequences, its updates, its CPU seconds."""

    run: Run
    score: float
    best_update: int
    updates: int
    seconds: float


@dataclass(frozen=True)
class Grid:
    """What is trained, how, and the folder that keeps it."""

    problems: Sequence[str]
    networks: Sequence[str]
    lags: Sequence[int]
    seeds: Sequence[int]
    settings: Settings
    folder: Path

    def runs(self) -> list[Run]:
        """Return all trainings, seed by seed, so that an unfinished grid has whole seeds."""
        return [
            Run(problem, network, lag, seed)
            for seed in self.seeds
            for lag in self.lags
            for problem in self.problems
            for network in self.networks
        ]

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcome of every training, in order, from its file where that is there."""
        for run in self.runs():
            yield self._kept(run) or self._train(run)

    def network(self, run: Run) -> RecurrentNetwork:
        """Read a trained network."""
        sizes = architecture(NETWORKS[run.network], lstm_hidden=self.settings.lstm_hidden)
        network = RecurrentNetwork(sizes)
        network.load_state_dict(load_tensors_safely(self._path(run, ".pt")))
        return network.eval()

    def _train(self, run: Run) -> Outcome:
        problem, network, s = PROBLEMS[run.problem], NETWORKS[run.network], self.settings
        untrained = build(network, lag=run.lag, lstm_hidden=s.lstm_hidden, seed=run.seed)
        trained = train(untrained, problem, run.lag, s, rate=network.rate, seed=run.seed)
        unseen = test_sequences(problem, run.lag, s, seed=run.seed)
        score = problem.score(answer(trained.network, unseen.x), unseen.y)
        outcome = Outcome(run, score, trained.best_update, trained.updates, trained.seconds)
        self._keep(outcome, trained.network)
        return outcome

    def _keep(self, outcome: Outcome, network: RecurrentNetwork) -> None:
        """Write the weights, then the outcome, whose file says that both are there."""
        buffer = io.BytesIO()
        torch.save(network.state_dict(), buffer)
        with replacing(self._path(outcome.run, ".pt")) as temporary:
            temporary.write_bytes(buffer.getvalue())
        content = {"conditions": self._conditions(outcome.run), **dataclasses.asdict(outcome)}
        with replacing(self._path(outcome.run, ".json")) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")

    def _kept(self, run: Run) -> Outcome | None:
        """Return a finished training's outcome, None where there is none under these conditions."""
        path = self._path(run, ".json")
        if not path.is_file():
            return None
        content = json.loads(path.read_text())
        if content.pop("conditions") != self._conditions(run):
            return None
        return Outcome(**(content | {"run": run}))

    def _conditions(self, run: Run) -> dict[str, Any]:
        """Return what else a training depends on."""
        network = NETWORKS[run.network]
        own = {"cell": network.cell, "careful": network.careful, "rate": network.rate}
        return dataclasses.asdict(self.settings) | own

    def _path(self, run: Run, suffix: str) -> Path:
        return self.folder / f"{run.name}{suffix}"
