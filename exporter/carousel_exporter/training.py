"""Training as the network will be served: state carried from window to window, cut off in between.

Truncated back-propagation through time (Williams and Peng 1990): several contiguous streams of the
training part run side by side as the batch, a window of steps at a time; the state goes on from
one window to the next, the gradient does not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from carousel_exporter.cells import CELLS, LSTM
from carousel_exporter.errors import SettingsError
from carousel_exporter.network import Architecture, Forecaster, State, initialise
from carousel_exporter.task import Task, part_of_samples

#: How many windows before the validation part the state is warmed up on.
WARM_UP_WINDOWS = 8
#: The learning rate is halved after this share of the patience without a better validation loss.
RATE_PATIENCE = 1 / 3


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. `window` is in steps, `batch` in streams, `patience` in epochs.

    `cell` is a key of CELLS; a plain RNN squashes with tanh.
    """

    window: int = 64
    batch: int = 8
    layers: int = 1
    hidden: int = 64
    cell: str = LSTM.name
    dropout: float = 0.0
    epochs: int = 300
    learning_rate: float = 3e-3
    clip: float = 1.0
    patience: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise SettingsError where a value makes no sense."""
        for name in ("window", "batch", "layers", "hidden", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.cell not in CELLS:
            raise SettingsError(f"cell must be {' or '.join(CELLS)}, not {self.cell!r}.")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"dropout must be at least 0 and below 1, not {self.dropout:g}.")
        if self.dropout and self.layers == 1:
            raise SettingsError("dropout acts between layers, and 1 layer has no between.")
        if not 0 <= self.seed < 2**64:
            raise SettingsError(f"The seed must be from 0 to 2**64 - 1, not {self.seed}.")
        if not (self.learning_rate > 0 and self.clip > 0):
            raise SettingsError(
                "The learning rate and the gradient's largest norm must be above 0, not "
                f"{self.learning_rate:g} and {self.clip:g}."
            )


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training part came to; losses are mean squared errors, scaled."""

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

    forecaster: Forecaster
    epoch: int = 0
    loss: float = float("inf")


@dataclass
class TrainingResult:
    """What training came to, or has come to so far."""

    best: Best
    epochs: list[Epoch] = field(default_factory=list)
    interrupted: bool = False


def build_forecaster(task: Task, settings: TrainingSettings) -> Forecaster:
    """Return an untrained network for a task, scaled; torch's generator gives its weights."""
    forecaster = Forecaster(
        Architecture(
            features=len(task.features),
            hidden=settings.hidden,
            layers=settings.layers,
            outputs=len(task.targets),
            targets=task.places,
            dropout=settings.dropout,
            cell=settings.cell,
        )
    )
    initialise(forecaster)
    for name, values in (("input", task.input), ("output", task.output)):
        getattr(forecaster, f"{name}_mean").copy_(torch.from_numpy(values.mean))
        getattr(forecaster, f"{name}_scale").copy_(torch.from_numpy(values.scale))
    return forecaster


def train(
    task: Task,
    settings: TrainingSettings,
    *,
    on_epoch: Callable[[Epoch, TrainingResult], None] = lambda _epoch, _result: None,
) -> TrainingResult:
    """Train a network; the same seed gives the same network on the same machine.

    `on_epoch` is called after each epoch. KeyboardInterrupt ends training early and keeps the best
    network so far. Raises SettingsError where the training part is too short for the settings, or
    its losses are no longer finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        forecaster = build_forecaster(task, settings)
        result = TrainingResult(Best(copy.deepcopy(forecaster).eval()))
        try:
            for epoch in _epochs(task, settings, forecaster):
                _take(result, epoch, forecaster)
                on_epoch(result.epochs[-1], result)
                if epoch.number - result.best.epoch >= settings.patience:
                    break
        except KeyboardInterrupt:
            result.interrupted = True
    return result


def predict(forecaster: Forecaster, x: np.ndarray) -> np.ndarray:
    """Answer whole sequences from a new session's state: (T, B, F) to (T, B, O), float32, plain."""
    with torch.inference_mode():
        y, _ = forecaster(torch.from_numpy(np.asarray(x, np.float32)))
    return np.asarray(y)


def forecast(forecaster: Forecaster, task: Task) -> np.ndarray:
    """Stream the whole series through one session: row t forecasts step t + horizon, (N, O)."""
    return predict(forecaster, task.inputs[:, None])[:, 0].astype(np.float64)


def _take(result: TrainingResult, epoch: Epoch, forecaster: Forecaster) -> None:
    if not np.isfinite([epoch.train_loss, epoch.validation_loss]).all():
        raise SettingsError(
            f"The loss was no longer finite in epoch {epoch.number}: train again with a lower --lr."
        )
    better = epoch.validation_loss < result.best.loss
    if better:
        # One assignment, so that Ctrl-C can't leave a network that is half one and half another.
        kept = copy.deepcopy(forecaster).eval()
        result.best = Best(kept, epoch.number, epoch.validation_loss)
    result.epochs.append(replace(epoch, best=better))


def _epochs(task: Task, settings: TrainingSettings, forecaster: Forecaster) -> Iterator[Epoch]:
    optimiser = torch.optim.Adam(forecaster.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=max(1, round(settings.patience * RATE_PATIENCE))
    )
    inputs = torch.from_numpy(task.inputs.astype(np.float32))  # (N, F)
    targets = torch.from_numpy(task.sample_targets().astype(np.float32))  # (N - horizon, O)
    samples = part_of_samples(task, "train")
    for number in range(1, settings.epochs + 1):
        streams = cut_streams(inputs[samples], targets[samples], settings)
        train_loss = _run_epoch(forecaster, optimiser, streams, settings)
        validation_loss = _validate(forecaster, inputs, targets, task, settings)
        rate = optimiser.param_groups[0]["lr"]
        schedule.step(validation_loss)
        yield Epoch(number, train_loss, validation_loss, rate, best=False)


def cut_streams(
    inputs: Tensor, targets: Tensor, settings: TrainingSettings
) -> list[tuple[Tensor, Tensor]]:
    """Cut (N, F) inputs and (N, O) targets into windows of streams side by side.

    Returns the windows in order, (T, B, F) and (T, B, O) each; row b of a window goes on where row
    b of the one before ended. The first stream begins at a random step below half a window, so
    that windows are cut elsewhere in each epoch.
    """
    batch = min(settings.batch, max(1, len(inputs) // (2 * settings.window)))
    slack = min(settings.window // 2, len(inputs) - batch)
    start = int(torch.randint(slack + 1, ()))
    length = (len(inputs) - start) // batch
    if length < 1:
        raise SettingsError("The training part holds no whole step for each stream.")

    def side_by_side(values: Tensor) -> Tensor:
        used = values[start : start + batch * length]
        return used.reshape(batch, length, -1).transpose(0, 1)  # (length, B, F)

    windows = zip(
        torch.split(side_by_side(inputs), settings.window),
        torch.split(side_by_side(targets), settings.window),
        strict=True,
    )
    return list(windows)


def _run_epoch(
    forecaster: Forecaster,
    optimiser: torch.optim.Optimizer,
    windows: list[tuple[Tensor, Tensor]],
    settings: TrainingSettings,
) -> float:
    forecaster.train()
    state: State | None = None
    total, count = 0.0, 0
    for x, target in windows:
        answer, state = forecaster.normalised(x, state)
        loss = nn.functional.mse_loss(answer, target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(forecaster.parameters(), settings.clip)
        optimiser.step()
        state = {name: value.detach() for name, value in state.items()}
        total += loss.item() * target.numel()
        count += target.numel()
    return total / count


@torch.inference_mode()
def _validate(
    forecaster: Forecaster,
    inputs: Tensor,
    targets: Tensor,
    task: Task,
    settings: TrainingSettings,
) -> float:
    forecaster.eval()
    samples = part_of_samples(task, "validation")
    start = max(0, samples.start - WARM_UP_WINDOWS * settings.window)
    answer, _ = forecaster.normalised(inputs[start : samples.stop, None])  # (T, 1, O)
    return nn.functional.mse_loss(answer[samples.start - start :, 0], targets[samples]).item()
