"""Two problems that only a memory solves, as long as one likes.

Both give two numbers a step, (value, flag), and ask for one answer, at the last step. `lag` is how
far back the first thing to remember may lie, in steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Array = NDArray[np.float32]

#: Numbers a step: a value, and a flag that says whether it counts.
FEATURES: Final = 2


@dataclass(frozen=True)
class Sequences:
    """Sequences x, (T, B, 2), and the answer to each at its last step, y, (B,)."""

    x: Array
    y: Array


class Problem(ABC):
    """A problem: how its sequences are drawn, and how answers to them are judged.

    `chance` is the score of somebody who remembers nothing, `learnt` the score from which on we
    call the problem solved, and `better` 1 where higher scores are better, -1 where lower are.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    measure: ClassVar[str]
    chance: ClassVar[float]
    learnt: ClassVar[float]
    better: ClassVar[int]

    @abstractmethod
    def draw(self, rng: np.random.Generator, lag: int, count: int) -> Sequences:
        """Draw `count` sequences."""

    @abstractmethod
    def loss(self, answers: Tensor, y: Tensor) -> Tensor:
        """Return what training lessens; answers and y are (B,)."""

    @abstractmethod
    def score(self, answers: Array, y: Array) -> float:
        """Return how good answers, (B,), are."""

    @abstractmethod
    def words(self, score: float) -> str:
        """Write a score as people read it."""

    def is_learnt(self, score: float) -> bool:
        """Tell whether a score counts as solved."""
        return self.better * (score - self.learnt) >= 0

    def is_surely_learnt(self, score: float) -> bool:
        """Tell whether it would so of another sample too: twice as near to perfection."""
        perfect = 1.0 if self.better > 0 else 0.0
        return abs(score - perfect) <= abs(self.learnt - perfect) / 2


class Bit(Problem):
    """Remember one bit: +1 or -1 at step 0, flagged; then `lag` steps of other bits, unflagged.

    At step `lag` the network says which it was: above 0 for +1. The later bits are as large as the
    one that counts, so a network has to refuse them, not only to forget slowly.
    """

    name = "bit"
    title = "remember one bit"
    measure = "accuracy"
    chance = 0.5
    learnt = 0.99
    better = 1

    def draw(self, rng: np.random.Generator, lag: int, count: int) -> Sequences:
        """Draw `count` sequences of lag + 1 steps."""
        x = np.zeros((lag + 1, count, FEATURES), np.float32)
        x[:, :, 0] = 2 * rng.integers(0, 2, (lag + 1, count)) - 1
        x[0, :, 1] = 1
        return Sequences(x, x[0, :, 0].copy())

    def loss(self, answers: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy of answers as log odds of +1, in nats."""
        return functional.binary_cross_entropy_with_logits(answers, (y + 1) / 2)

    def score(self, answers: Array, y: Array) -> float:
        """Return the share of right signs."""
        return float(np.mean(np.sign(answers) == y))

    def words(self, score: float) -> str:
        """Write an accuracy."""
        return f"{100 * score:.1f} %"


class Adding(Problem):
    """The adding problem (Hochreiter and Schmidhuber 1997), as posed since Le et al. (2015).

    `lag` steps of numbers drawn evenly from [0, 1]; one is flagged in the first half of the
    sequence and one in the second; the answer at the last step is their sum. The original draws
    from [-1, 1], flags the first within the first 10 steps, and scales the sum. Who always says 1,
    the mean of the sum, has a mean squared error of its variance, 2 / 12.
    """

    name = "adding"
    title = "the adding problem"
    measure = "mean squared error"
    chance = 1 / 6
    learnt = 0.01
    better = -1

    def draw(self, rng: np.random.Generator, lag: int, count: int) -> Sequences:
        """Draw `count` sequences of `lag` steps."""
        x = np.zeros((lag, count, FEATURES), np.float32)
        x[:, :, 0] = rng.random((lag, count), np.float32)
        rows, half = np.arange(count), lag // 2
        for places in (rng.integers(0, half, count), rng.integers(half, lag, count)):
            x[places, rows, 1] = 1
        return Sequences(x, (x[:, :, 0] * x[:, :, 1]).sum(axis=0))

    def loss(self, answers: Tensor, y: Tensor) -> Tensor:
        """Return the mean squared error."""
        return functional.mse_loss(answers, y)

    def score(self, answers: Array, y: Array) -> float:
        """Return the mean squared error."""
        return float(np.mean((answers - y) ** 2))

    def words(self, score: float) -> str:
        """Write a mean squared error."""
        return f"{score:.4f}"


PROBLEMS: Final[Mapping[str, Problem]] = {problem.name: problem for problem in (Bit(), Adding())}


def tensors(sequences: Sequences) -> tuple[Tensor, Tensor]:
    """Return x (T, B, 2) and y (B,) for PyTorch; the memory is shared."""
    return torch.from_numpy(sequences.x), torch.from_numpy(sequences.y)
