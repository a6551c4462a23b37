"""Small networks, series and model files that tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from carousel_exporter import conversion
from carousel_exporter.conversion import Labels
from carousel_exporter.data import Series
from carousel_exporter.initialisation import initialise
from carousel_exporter.network import Architecture, RecurrentNetwork
from carousel_exporter.settings import TrainingSettings
from carousel_exporter.source import Source

QUICK = TrainingSettings(window=16, batch=4, hidden=8, epochs=6, learning_rate=1e-2, seed=3)


def make_network(
    *,
    features: int = 2,
    hidden: int = 8,
    layers: int = 1,
    outputs: int = 1,
    targets: tuple[int, ...] | None = None,
    bias: bool = True,
    seed: int = 0,
) -> RecurrentNetwork:
    """An untrained network with noise on its biases and a normalisation that does something."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = RecurrentNetwork(
            Architecture(features, hidden, layers, outputs, targets, bias=bias, head_bias=bias)
        )
        initialise(network)
        for name, parameter in network.named_parameters():
            if "bias" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        network.input_mean.normal_()
        network.input_scale.uniform_(0.5, 2.0)
        network.output_mean.normal_()
        network.output_scale.uniform_(0.5, 2.0)
    return network.eval()


def make_model(path: Path, network: RecurrentNetwork) -> Path:
    conversion.convert(Source(network), path, Labels(path.stem))
    return path


def make_series(length: int = 400, *, seed: int = 0) -> Series:
    """A wave with a trend and a little noise, "a", and noise that says nothing, "b"."""
    rng = np.random.default_rng(seed)
    t = np.arange(length)
    a = 300 + 0.02 * t + 5 * np.sin(2 * np.pi * t / 20) + 0.1 * rng.normal(size=length)
    values = np.stack([a, rng.normal(size=length)], axis=1)
    return Series(("a", "b"), values, (), 0, {"a": 0, "b": 0})


def write_csv(path: Path, series: Series) -> Path:
    lines = [",".join(["date", *series.columns])]
    lines += [
        ",".join([f"day {step}", *(f"{value:.6f}" for value in row)])
        for step, row in enumerate(series.values)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
