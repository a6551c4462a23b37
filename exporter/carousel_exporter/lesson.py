"""What a network is trained on, and how its answers are judged: what differs from task to task.

Truncated back-propagation through time (Williams and Peng 1990) is common to all: a pass over the
data is cut into windows, the state goes on from one window to the next, the gradient does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from carousel_exporter.errors import SettingsError
from carousel_exporter.initialisation import initialise, remember
from carousel_exporter.network import Architecture, RecurrentNetwork
from carousel_exporter.settings import TrainingSettings
from carousel_exporter.wording import counted, steps

#: How many windows before a held-out part the state is warmed up on.
WARM_UP_WINDOWS = 8
#: What fits into one protobuf message, and so into one model file, in single precision.
MOST_WEIGHTS = (2**31 - 1) // 4
#: A class that no answer is judged by: padding behind a sequence's end.
NO_CLASS = -100


@dataclass(frozen=True)
class Window:
    """Some steps of several rows, x (T, B, F) or ids (T, B), and what is to be answered to them.

    `target` is (T, B, O) numbers, or (T, B) classes, NO_CLASS where a row has ended. `count` says
    how many targets there are.
    """

    x: Tensor
    target: Tensor
    count: int


class Lesson(Protocol):
    """A task as training sees it."""

    def build(self, settings: TrainingSettings) -> RecurrentNetwork:
        """Return an untrained network; torch's generator gives its weights.

        Raises SettingsError where the data don't suffice for the settings.
        """
        ...

    def passes(self, settings: TrainingSettings) -> Iterator[list[Window]]:
        """Yield an epoch's rows, each time as windows in order, from a new state on."""
        ...

    def loss(self, answer: Tensor, window: Window, settings: TrainingSettings) -> Tensor:
        """Return the mean loss, in training, of a network's normalised answer to a window."""
        ...

    def validate(self, network: RecurrentNetwork, settings: TrainingSettings) -> float:
        """Return the mean loss on the validation part; the network is in evaluation mode."""
        ...


def begin(architecture: Architecture, settings: TrainingSettings) -> RecurrentNetwork:
    """Return a network of these sizes, with what the settings say of its layers, initialised."""
    sizes = dataclasses.replace(architecture, **_layers(settings))
    if sizes.weights > MOST_WEIGHTS:
        raise SettingsError(
            f"A network of {counted(sizes.layers, 'layer')} with {counted(sizes.hidden, 'unit')} "
            f"has {sizes.weights:,} weights, and a model file holds {MOST_WEIGHTS:,} at most: take "
            "a smaller --hidden or fewer --layers."
        )
    network = RecurrentNetwork(sizes)
    initialise(network)
    if settings.chrono:
        remember(network, settings.chrono)
    return network


def _layers(settings: TrainingSettings) -> dict[str, Any]:
    names = ("hidden", "layers", "dropout", "cell", "recurrent_dropout", "layer_norm")
    return {name: getattr(settings, name) for name in names}


def check_window(length: int, settings: TrainingSettings) -> None:
    """Raise SettingsError where a training part of `length` steps is shorter than a window."""
    if length < settings.window:
        raise SettingsError(
            f"The training part has {steps(length)} to learn from, and a window has "
            f"{settings.window}: give more data, or a smaller --window."
        )


def cut_streams(inputs: Tensor, targets: Tensor, settings: TrainingSettings) -> list[Window]:
    """Cut (N, …) inputs and targets of one long series into windows of streams side by side.

    Returns the windows in order, (T, B, …); row b of a window goes on where row b of the one
    before ended. The first stream begins at a random step below half a window, so that windows
    are cut elsewhere in each epoch.
    """
    batch = min(settings.batch, max(1, len(inputs) // (2 * settings.window)))
    slack = min(settings.window // 2, len(inputs) - batch)
    start = int(torch.randint(slack + 1, ()))
    length = (len(inputs) - start) // batch

    def side_by_side(values: Tensor) -> Tensor:
        used = values[start : start + batch * length]
        return used.reshape(batch, length, *values.shape[1:]).transpose(0, 1)  # (length, B, …)

    windows = zip(
        torch.split(side_by_side(inputs), settings.window),
        torch.split(side_by_side(targets), settings.window),
        strict=True,
    )
    return [Window(x, target, target.numel()) for x, target in windows]
