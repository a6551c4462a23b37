"""How good forecasts are on the held-out part, against what costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from carousel_exporter.baselines import Score, persistence, score, seasonal_naive
from carousel_exporter.data import Array
from carousel_exporter.errors import SettingsError
from carousel_exporter.forecast_task import ForecastTask, part_of_samples
from carousel_exporter.forecasting import forecast
from carousel_exporter.network import RecurrentNetwork


@dataclass(frozen=True)
class ForecastEvaluation:
    """Forecasts of the test part and their errors.

    `truth` and `forecast` are (N, O) in plain units, row by row for the same step; the first is
    step `start` of the series. `scores` are by name, the network's first.
    """

    start: int
    truth: Array
    forecast: Array
    scores: dict[str, Score]


def evaluate_forecast(
    forecaster: RecurrentNetwork, task: ForecastTask, *, season: int | None = None
) -> ForecastEvaluation:
    """Stream the series through one session and judge the forecasts of the test part.

    All three are judged on the same steps. The session begins with the series, so that at the
    test part it has a history, as a long-lived session has. Without a `season` there is no
    seasonal-naive forecast.
    """
    samples = part_of_samples(task, "test")
    truth = task.truth[task.horizon :][samples]
    own = forecaster.architecture.kind.title
    forecasts = {
        own: forecast(forecaster, task)[samples],
        "persistence": persistence(task.truth, task.horizon)[samples],
    }
    if season is not None:
        check_season(task, season)
        forecasts["seasonal naive"] = seasonal_naive(task.truth, task.horizon, season)[samples]
    return ForecastEvaluation(
        start=samples.start + task.horizon,
        truth=truth,
        forecast=forecasts[own],
        scores={name: score(values, truth) for name, values in forecasts.items()},
    )


def check_season(task: ForecastTask, season: int) -> None:
    """Raise SettingsError where a season is no length, or too long to judge the test part by."""
    if not 1 <= season <= task.split.validation:
        raise SettingsError(
            f"A season must be 1 to {task.split.validation} steps long, which is what lies before "
            f"the test part, not {season}."
        )
