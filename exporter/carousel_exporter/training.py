"""Training as the network will be served: state carried from window to window, cut off in between.

What is learnt is the lesson's affair; the loop, the optimiser, when to stop and what to keep are
the same for every task.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from carousel_exporter.errors import SettingsError
from carousel_exporter.lesson import Lesson
from carousel_exporter.network import RecurrentNetwork, State
from carousel_exporter.settings import TrainingSettings

#: The learning rate is halved after this share of the patience without a better validation loss.
RATE_PATIENCE = 1 / 3


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training part came to; the losses are the lesson's."""

    number: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    best: bool


@dataclass(frozen=True)
class Best:
    """The best network so far, in evaluation mode, its epoch and its validation loss.

    Epoch 0 is the network that training begins with, without a loss.
    """

    network: RecurrentNetwork
    epoch: int = 0
    loss: float = float("inf")


@dataclass
class TrainingResult:
    """What training came to, or has come to so far."""

    best: Best
    epochs: list[Epoch] = field(default_factory=list)
    interrupted: bool = False


OnEpoch = Callable[[Epoch, TrainingResult], None]


class Trainer:
    """One training run: the network, and all that its next epoch depends on.

    Raises SettingsError where the data don't suffice for the settings.
    """

    def __init__(self, lesson: Lesson, settings: TrainingSettings) -> None:
        self._lesson = lesson
        self.settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self._network = lesson.build(settings)
            self._generator = torch.get_rng_state()
        self._optimiser = torch.optim.Adam(self._network.parameters(), lr=settings.learning_rate)
        self._schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._optimiser, factor=0.5, patience=max(1, round(settings.patience * RATE_PATIENCE))
        )
        self.result = TrainingResult(Best(copy.deepcopy(self._network).eval()))

    @property
    def is_over(self) -> bool:
        """Whether the epochs are over, or nothing has got better for too long."""
        done = len(self.result.epochs)
        waited = done - self.result.best.epoch
        return done >= self.settings.epochs or (done > 0 and waited >= self.settings.patience)

    def run(self, on_epoch: OnEpoch = lambda _epoch, _result: None) -> TrainingResult:
        """Train until nothing gets better, or the epochs are over.

        `on_epoch` is called after each epoch; `state` may be taken there. KeyboardInterrupt ends
        training early and keeps the best network so far. Raises SettingsError where a loss is no
        longer finite.
        """
        result = self.result
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._generator)
            try:
                while not self.is_over:
                    self._take(self._run_epoch(len(result.epochs) + 1))
                    self._generator = torch.get_rng_state()
                    on_epoch(result.epochs[-1], result)
            except KeyboardInterrupt:
                result.interrupted = True
        return result

    def state(self) -> dict[str, Any]:
        """Return all that the next epoch depends on, as tensors and plain values."""
        best = self.result.best
        return {
            "network": self._network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "generator": self._generator,
            "epochs": [dataclasses.asdict(epoch) for epoch in self.result.epochs],
            "best": {
                "network": best.network.state_dict(),
                "epoch": best.epoch,
                "loss": best.loss,
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state` returned, in a run of the same lesson and settings.

        Raises KeyError, RuntimeError, TypeError or ValueError where it is none.
        """
        best = copy.deepcopy(self._network).eval()
        best.load_state_dict(state["best"]["network"])
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._generator = state["generator"]
        self.result = TrainingResult(
            Best(best, state["best"]["epoch"], state["best"]["loss"]),
            [Epoch(**epoch) for epoch in state["epochs"]],
        )

    def _run_epoch(self, number: int) -> Epoch:
        train_loss = self._learn()
        self._network.eval()
        with torch.inference_mode():
            validation_loss = self._lesson.validate(self._network, self.settings)
        rate = self._optimiser.param_groups[0]["lr"]
        self._schedule.step(validation_loss)
        return Epoch(number, train_loss, validation_loss, rate, best=False)

    def _learn(self) -> float:
        """Go through the training part once; return the mean loss on the way."""
        network, optimiser = self._network.train(), self._optimiser
        total, count = 0.0, 0
        for windows in self._lesson.passes(self.settings):
            state: State | None = None
            for window in windows:
                answer, state = network.normalised(window.x, state)
                loss = self._lesson.loss(answer, window, self.settings)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), self.settings.clip)
                optimiser.step()
                state = {name: value.detach() for name, value in state.items()}
                total += loss.item() * window.count
                count += window.count
        return total / count

    def _take(self, epoch: Epoch) -> None:
        if not np.isfinite([epoch.train_loss, epoch.validation_loss]).all():
            raise SettingsError(
                f"The loss was no longer finite in epoch {epoch.number}: train again with a lower "
                "--lr."
            )
        better = epoch.validation_loss < self.result.best.loss
        if better:
            # One assignment, so that Ctrl-C can't leave a network half one and half another.
            kept = copy.deepcopy(self._network).eval()
            self.result.best = Best(kept, epoch.number, epoch.validation_loss)
        self.result.epochs.append(dataclasses.replace(epoch, best=better))


def train(
    lesson: Lesson, settings: TrainingSettings, *, on_epoch: OnEpoch = lambda _epoch, _result: None
) -> TrainingResult:
    """Train a network; the same seed gives the same network on the same machine."""
    return Trainer(lesson, settings).run(on_epoch)


def predict(network: RecurrentNetwork, x: np.ndarray) -> np.ndarray:
    """Answer whole sequences from a new session's state: (T, B, F) to (T, B, O), float32, plain."""
    with torch.inference_mode():
        y, _ = network(torch.from_numpy(np.asarray(x, np.float32)))
    return np.asarray(y)
