"""A small training loop: new sequences at every update, until the problem is solved or time is up.

Adam, the batch, the clipping and the budget are the same for every network.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from carousel_exporter.network import RecurrentNetwork
from examples.memory.problems import Array, Problem, Sequences, tensors


@dataclass(frozen=True)
class Settings:
    """How to train and judge; all but `lstm_hidden` (units) and `clip` count.

    `updates` is the budget of one training, `batch` the sequences of an update; `check_every` says
    after how many updates the score on `validation` sequences is taken. The others' hidden units
    follow from the LSTM's (`networks.matched_hidden`). `clip` is the gradient's largest norm.
    """

    lstm_hidden: int = 32
    batch: int = 64
    clip: float = 1.0
    updates: int = 1500
    check_every: int = 50
    validation: int = 500
    test: int = 1000


@dataclass(frozen=True)
class Trained:
    """The best network by validation, after how many updates, all updates, and CPU seconds."""

    network: RecurrentNetwork
    best_update: int
    updates: int
    seconds: float


def train(
    network: RecurrentNetwork,
    problem: Problem,
    lag: int,
    settings: Settings,
    *,
    rate: float,
    seed: int,
) -> Trained:
    """Train a network in place; return it as it was when its validation score was best."""
    rng = np.random.default_rng([seed, lag, 0])
    held_out = problem.draw(np.random.default_rng([seed, lag, 1]), lag, settings.validation)
    optimiser = torch.optim.Adam(network.parameters(), rate)
    begin = time.process_time()
    best, best_score, best_update, update = copy.deepcopy(network), -np.inf, 0, 0
    while update < settings.updates:
        for _ in range(min(settings.check_every, settings.updates - update)):
            sequences = problem.draw(rng, lag, settings.batch)
            _update(network, problem, sequences, optimiser, clip=settings.clip)
            update += 1
        score = problem.score(answer(network, held_out.x), held_out.y)
        if problem.better * score > best_score:
            best_score = problem.better * score
            best, best_update = copy.deepcopy(network), update
        if problem.is_surely_learnt(score):
            break
    return Trained(best.eval(), best_update, update, time.process_time() - begin)


def test_sequences(problem: Problem, lag: int, settings: Settings, *, seed: int) -> Sequences:
    """Draw the sequences that a trained network is judged by; none was there in training."""
    return problem.draw(np.random.default_rng([seed, lag, 2]), lag, settings.test)


@torch.inference_mode()
def answer(network: RecurrentNetwork, x: Array) -> Array:
    """Return a network's answers to sequences (T, B, 2) at their last step, (B,)."""
    y, _ = network(torch.from_numpy(x))
    answers: Array = y[-1, :, 0].numpy()
    return answers


def _update(
    network: RecurrentNetwork,
    problem: Problem,
    sequences: Sequences,
    optimiser: torch.optim.Optimizer,
    *,
    clip: float,
) -> None:
    x, y = tensors(sequences)
    optimiser.zero_grad()
    loss = problem.loss(network(x)[0][-1, :, 0], y)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimiser.step()
