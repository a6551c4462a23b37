"""A forecasting task: a series, its split, what goes in, what is asked for, how both are scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carousel_exporter import data
from carousel_exporter.data import Array, Series, Split, Statistics
from carousel_exporter.errors import SettingsError


@dataclass(frozen=True)
class ForecastTask:
    """Forecast `targets` from `features`, `horizon` steps ahead.

    `inputs` is (N, F) and `truth` (N, O), both in plain units over the whole series. `places` says
    where the targets lie among the features in changes mode, and is None in levels mode. `levels`,
    `input` and `output` are statistics of the training part alone: of the inputs as they come, of
    what the network sees of them, (F,) both, and of what it answers, (O,).
    """

    features: tuple[str, ...]
    targets: tuple[str, ...]
    horizon: int
    inputs: Array
    truth: Array
    split: Split
    places: tuple[int, ...] | None
    levels: Statistics
    input: Statistics
    output: Statistics

    def sample_targets(self) -> Array:
        """Return what the network is to answer at each step, (N - horizon, O), scaled."""
        ahead = self.truth[self.horizon :]
        if self.places is not None:
            ahead = ahead - self.truth[: -self.horizon]
        return (ahead - self.output.mean) / self.output.scale


def make_forecast_task(
    series: Series,
    *,
    targets: Sequence[str],
    features: Sequence[str] = (),
    horizon: int,
    in_changes: bool | None = None,
    validation: float = 0.15,
    test: float = 0.15,
) -> ForecastTask:
    """Set up a task; `in_changes` None means changes mode wherever every target is a feature.

    Raises SettingsError where the series is too short, the horizon is no positive number, or
    changes mode is asked for with a target that is not among the features.
    """
    if horizon < 1:
        raise SettingsError(f"The horizon must be at least 1 step, not {horizon}.")
    targets = tuple(dict.fromkeys(targets))
    features = tuple(dict.fromkeys(features)) or series.columns
    _check_columns(series, targets, features)
    missing = [name for name in targets if name not in features]
    if in_changes and missing:
        raise SettingsError(
            f"Changes mode needs every target among the features, and {missing[0]!r} is not: "
            f"add it to --features, or use --levels."
        )
    places = None
    if in_changes or (in_changes is None and not missing):
        places = tuple(features.index(name) for name in targets)
    split = data.split_by_time(
        len(series.values), validation=validation, test=test, horizon=horizon
    )
    inputs, truth = series.select(features), series.select(targets)
    _check_range(features, inputs)
    _check_range(targets, truth)
    known, asked = inputs[: split.train], truth[: split.train]
    _check_changing(targets, asked)
    in_changes = places is not None
    return ForecastTask(
        features=features,
        targets=targets,
        horizon=horizon,
        inputs=inputs,
        truth=truth,
        split=split,
        places=places,
        levels=data.statistics(known),
        input=data.statistics(data.changes(known, 1) if in_changes else known),
        output=data.statistics(data.changes(asked, horizon) if in_changes else asked),
    )


def part_of_samples(task: ForecastTask, part: str) -> slice:
    """Return the steps t of a part ("train", "validation" or "test") whose target lies in it too.

    The target of step t is the value at t + horizon, so a part's last `horizon` steps are left
    out: no part is trained or judged on a value of the next.
    """
    starts = {"train": 0, "validation": task.split.train, "test": task.split.validation}
    ends = {
        "train": task.split.train,
        "validation": task.split.validation,
        "test": task.split.test,
    }
    return slice(starts[part], ends[part] - task.horizon)


def _check_columns(series: Series, targets: Sequence[str], features: Sequence[str]) -> None:
    if not targets:
        raise SettingsError("There must be at least one target column.")
    for name in (*targets, *features):
        if name not in series.columns:
            raise SettingsError(
                f"There is no column of numbers called {name!r}; there are "
                f"{', '.join(series.columns)}."
            )


def _check_changing(columns: Sequence[str], values: Array) -> None:
    """Raise SettingsError where a target (N, O) never changes."""
    for name, spread in zip(columns, np.ptp(values, axis=0), strict=True):
        if spread == 0:
            raise SettingsError(
                f"Column {name!r} is constant over the training part: there is nothing to forecast."
            )


def _check_range(columns: Sequence[str], values: Array) -> None:
    """Raise SettingsError where values (N, C), or their changes, are beyond single precision."""
    limit = float(np.finfo(np.float32).max) / 2  # two values lie at most twice as far apart
    largest = np.abs(values).max(axis=0)
    for name, value in zip(columns, largest, strict=True):
        if value > limit:
            raise SettingsError(
                f"Column {name!r} holds values as large as {value:.3g}, and networks compute in "
                f"single precision, up to {limit:.3g}: give it in a larger unit."
            )
