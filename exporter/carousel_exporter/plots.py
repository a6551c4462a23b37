"""The picture that training leaves: the forecast over the held-out part, against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from carousel_exporter.data import Array
from carousel_exporter.files import replacing
from carousel_exporter.wording import steps


def plot_forecast(
    path: Path,
    *,
    truth: Array,
    forecast: Array,
    labels: Sequence[str],
    targets: Sequence[str],
    unit: str,
    horizon: int,
) -> None:
    """Draw truth and forecast, (N, O) each, row by row for the same step, as a PNG.

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
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
