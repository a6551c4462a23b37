"""Learning to forecast: streams of the training part side by side, judged by squared errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from carousel_exporter.data import Array
from carousel_exporter.forecast_task import ForecastTask, part_of_samples
from carousel_exporter.lesson import WARM_UP_WINDOWS, Window, begin, check_window, cut_streams
from carousel_exporter.network import Architecture, RecurrentNetwork
from carousel_exporter.settings import TrainingSettings
from carousel_exporter.training import predict


class ForecastLesson:
    """A forecasting task as training sees it; losses are mean squared errors, scaled."""

    def __init__(self, task: ForecastTask) -> None:
        self.task = task
        self._inputs = torch.from_numpy(task.inputs.astype(np.float32))  # (N, F)
        # (N - horizon, O)
        self._targets = torch.from_numpy(task.sample_targets().astype(np.float32))
        self._train = part_of_samples(task, "train")
        self._validation = part_of_samples(task, "validation")

    def build(self, settings: TrainingSettings) -> RecurrentNetwork:
        """Return an untrained network, scaled as the training part is."""
        check_window(len(self._targets[self._train]), settings)
        task = self.task
        forecaster = begin(
            Architecture(
                features=len(task.features),
                hidden=settings.hidden,
                layers=settings.layers,
                outputs=len(task.targets),
                targets=task.places,
            ),
            settings,
        )
        for name, values in (("input", task.input), ("output", task.output)):
            getattr(forecaster, f"{name}_mean").copy_(torch.from_numpy(values.mean))
            getattr(forecaster, f"{name}_scale").copy_(torch.from_numpy(values.scale))
        return forecaster

    def passes(self, settings: TrainingSettings) -> Iterator[list[Window]]:
        """Yield the training part once, as streams side by side."""
        yield cut_streams(self._inputs[self._train], self._targets[self._train], settings)

    def loss(self, answer: Tensor, window: Window, settings: TrainingSettings) -> Tensor:  # noqa: ARG002 - the lesson's form
        """Return the mean squared error, scaled."""
        return nn.functional.mse_loss(answer, window.target)

    def validate(self, network: RecurrentNetwork, settings: TrainingSettings) -> float:
        """Return the loss on the validation part, in one session warmed up before it."""
        samples = self._validation
        start = max(0, samples.start - WARM_UP_WINDOWS * settings.window)
        answer, _ = network.normalised(self._inputs[start : samples.stop, None])  # (T, 1, O)
        found = answer[samples.start - start :, 0]
        return nn.functional.mse_loss(found, self._targets[samples]).item()


def forecast(forecaster: RecurrentNetwork, task: ForecastTask) -> Array:
    """Stream the whole series through one session: row t forecasts step t + horizon, (N, O)."""
    return predict(forecaster, task.inputs[:, None])[:, 0].astype(np.float64)
