"""`train --task forecast`: a series in a CSV file, and columns of it some steps ahead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from carousel_exporter.checkpoint import FORECAST, Checkpoint, Fact
from carousel_exporter.commands.run import Verdict
from carousel_exporter.commands.tables import score_table
from carousel_exporter.data import Series
from carousel_exporter.forecast_evaluation import ForecastEvaluation, evaluate_forecast
from carousel_exporter.forecast_task import ForecastTask
from carousel_exporter.forecasting import ForecastLesson
from carousel_exporter.network import RecurrentNetwork
from carousel_exporter.plots import forecast_figure
from carousel_exporter.source import sha256
from carousel_exporter.training import TrainingResult


@dataclass(frozen=True)
class Forecasting:
    """A series to forecast; a `season` in steps adds the seasonal-naive baseline."""

    data: Path
    series: Series
    task: ForecastTask
    season: int | None
    unit: str

    @property
    def lesson(self) -> ForecastLesson:
        """The task as training sees it."""
        return ForecastLesson(self.task)

    @cached_property
    def facts(self) -> Mapping[str, Fact]:
        """What the series is."""
        return {
            "data": self.data.name,
            "data_sha256": sha256(self.data),
            "steps": len(self.series.values),
            "filled": sum(self.series.filled.values()),
        }

    def introduction(self) -> list[str]:
        """Say how the series is split, and what was filled."""
        series, split = self.series, self.task.split
        lines = [
            f"{self.data}: {len(series.values)} steps; training 0 to {split.train - 1}, validation "
            f"to {split.validation - 1}, test to {split.test - 1}"
        ]
        if series.dropped:
            lines.append(f"dropped {series.dropped} leading rows with missing values")
        lines += filled_lines(series.filled)
        flat = np.ptp(self.task.inputs[: split.train], axis=0) == 0
        lines += constant_lines(
            [name for name, is_flat in zip(self.task.features, flat, strict=True) if is_flat]
        )
        return lines

    def checkpoint(self, network: RecurrentNetwork, facts: dict[str, Fact]) -> Checkpoint:
        """Return what is kept of a network."""
        return Checkpoint(
            network=network,
            features=self.task.features,
            targets=self.task.targets,
            horizon=self.task.horizon,
            unit=self.unit,
            levels=self.task.levels,
            split=self.task.split,
            facts=facts,
            task=FORECAST,
        )

    def judge(self, network: RecurrentNetwork, result: TrainingResult) -> Verdict:  # noqa: ARG002
        """Compare forecasts of the test part with those that cost nothing."""
        task = self.task
        found = evaluate_forecast(network, task, season=self.season)
        return Verdict(
            facts=_test_facts(found),
            table=score_table(
                found.scores, task.targets, self.unit, task.horizon, len(found.truth)
            ),
            figure=forecast_figure(
                truth=found.truth,
                forecast=found.forecast,
                labels=self.series.labels[found.start :],
                targets=task.targets,
                unit=self.unit,
                horizon=task.horizon,
            ),
        )


def filled_lines(filled: Mapping[str, int]) -> list[str]:
    """Say which columns had gaps."""
    return [
        f"filled {count} missing values of {name} with the one before"
        for name, count in filled.items()
        if count
    ]


def constant_lines(names: list[str]) -> list[str]:
    """Say which columns tell a network nothing."""
    return [
        f"column {name} is constant over the training part, and tells the network nothing"
        for name in names
    ]


def _test_facts(evaluation: ForecastEvaluation) -> dict[str, Fact]:
    """Return the mean absolute errors on the test part, averaged over the targets."""
    return {
        f"test_mae_{name.lower().replace(' ', '_')}": round(float(score.mae.mean()), 6)
        for name, score in evaluation.scores.items()
    }
