"""The forecasts that cost nothing, which a network has to beat, and the errors of all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from carousel_exporter.data import Array
from carousel_exporter.errors import SettingsError


@dataclass(frozen=True)
class Score:
    """Mean absolute error and root mean squared error of each target, (O,), in its own unit."""

    mae: Array
    rmse: Array


def persistence(targets: Array, horizon: int) -> Array:
    """Forecast that nothing changes: (N, O) to (N - horizon, O), row t for step t + horizon."""
    return targets[:-horizon]


def seasonal_naive(targets: Array, horizon: int, season: int) -> Array:
    """Forecast the value of the same place in the newest season known at step t.

    (N, O) to (N - horizon, O), row t for step t + horizon; NaN where there is no such season yet.
    Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., section 5.2.
    """
    if season < 1:
        raise SettingsError(f"A season must be at least 1 step long, not {season}.")
    back = -(-horizon // season) * season - horizon  # steps from the known value to step t
    known = targets[: len(targets) - horizon]
    forecast = np.full_like(known, np.nan)
    forecast[back:] = known[: len(known) - back]
    return forecast


def score(forecast: Array, truth: Array) -> Score:
    """Return the errors of a forecast, (N, O) each; NaN where the forecast is not complete."""
    difference = forecast - truth
    return Score(
        mae=np.abs(difference).mean(axis=0), rmse=np.sqrt(np.square(difference).mean(axis=0))
    )
