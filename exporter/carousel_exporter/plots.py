"""The pictures that training leaves: how it went, and what came of it on the held-out part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carousel_exporter.data import Array
from carousel_exporter.files import replacing
from carousel_exporter.training import Epoch
from carousel_exporter.wording import steps


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def forecast_figure(
    *,
    truth: Array,
    forecast: Array,
    labels: Sequence[str],
    targets: Sequence[str],
    unit: str,
    horizon: int,
) -> Figure:
    """Draw truth and forecast, (N, O) each, row by row for the same step.

    `labels` name the steps on the horizontal axis, N of them, or none for plain numbers.
    """
    figure = Figure(figsize=(10, 3.2 * len(targets)), layout="constrained")
    panels = figure.subplots(len(targets), 1, squeeze=False)[:, 0]
    for column, (panel, target) in enumerate(zip(panels, targets, strict=True)):
        panel.plot(truth[:, column], color="black", linewidth=1.2, label="truth")
        panel.plot(
            forecast[:, column],
            color="tab:red",
            linewidth=1.0,
            label=f"forecast, made {steps(horizon)} before",
        )
        panel.set_ylabel(f"{target} ({unit})" if unit else target)
        panel.grid(alpha=0.3)
        panel.legend(loc="upper left", frameon=False)
        if labels:
            places = np.linspace(0, len(labels) - 1, min(7, len(labels))).astype(int)
            panel.set_xticks(places, [labels[place] for place in places])
        else:
            panel.set_xlabel("step of the test part")
    return figure


def curves_figure(epochs: Sequence[Epoch], *, unit: str, scale: float = 1.0) -> Figure:
    """Draw the losses of each epoch, times `scale`, in a unit."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    draw_curves(figure.subplots(), epochs, unit=unit, scale=scale)
    return figure


def text_figure(
    epochs: Sequence[Epoch], levels: Mapping[str, float], *, unit: str, scale: float
) -> Figure:
    """Draw the losses of each epoch, times `scale`, beside levels that have names."""
    figure = curves_figure(epochs, unit=unit, scale=scale)
    (panel,) = figure.axes
    for place, (name, level) in enumerate(levels.items()):
        style = "-." if place else ":"
        panel.axhline(level, color="black", linewidth=1.0, linestyle=style, label=name)
    panel.legend(frameon=False)
    return figure


def accuracy_figure(epochs: Sequence[Epoch], heard: Array, accuracy: Array) -> Figure:
    """Draw the losses of each epoch, and the accuracy over what was heard, both (K,)."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_curves(left, epochs, unit="cross-entropy (nats)")
    right.plot(heard, accuracy, color="tab:red", marker=".")
    right.set_xlabel("part of the sequence heard")
    right.set_ylabel("accuracy on the test part")
    right.set_ylim(0, 1.02)
    right.grid(alpha=0.3)
    return figure


def draw_curves(panel: Axes, epochs: Sequence[Epoch], *, unit: str, scale: float = 1.0) -> None:
    """Draw the losses of each epoch into a panel, and where the best network was."""
    numbers = [epoch.number for epoch in epochs]
    lines = (("training", "train_loss", "tab:blue"), ("validation", "validation_loss", "tab:red"))
    for label, name, color in lines:
        values = [getattr(epoch, name) * scale for epoch in epochs]
        panel.plot(numbers, values, color=color, linewidth=1.2, label=label)
    best = [epoch for epoch in epochs if epoch.best][-1]
    loss = best.validation_loss * scale
    panel.plot([best.number], [loss], "o", color="tab:red", label="kept")
    panel.set_xlabel("epoch")
    panel.set_ylabel(unit)
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
