import dataclasses

import numpy as np
import pytest

from carousel_exporter import baselines
from carousel_exporter.errors import SettingsError
from carousel_exporter.forecast_task import make_forecast_task, part_of_samples

from .builders import make_series


@pytest.mark.parametrize("in_changes", [True, False])
def test_what_comes_after_the_training_part_changes_no_statistic(in_changes):
    series = make_series()
    task = make_forecast_task(series, targets=["a"], horizon=3, in_changes=in_changes)
    values = series.values.copy()
    values[task.split.train :] = 1e6
    other = make_forecast_task(
        dataclasses.replace(series, values=values), targets=["a"], horizon=3, in_changes=in_changes
    )
    for name in ("levels", "input", "output"):
        for field in ("mean", "scale"):
            np.testing.assert_array_equal(
                getattr(getattr(task, name), field), getattr(getattr(other, name), field)
            )
    train = part_of_samples(task, "train")
    np.testing.assert_array_equal(task.sample_targets()[train], other.sample_targets()[train])


def test_no_part_is_judged_on_a_value_of_the_next():
    task = make_forecast_task(make_series(), targets=["a"], horizon=7)
    ends = [task.split.train, task.split.validation, task.split.test]
    parts = [part_of_samples(task, name) for name in ("train", "validation", "test")]
    assert [part.stop - 1 + task.horizon for part in parts] == [end - 1 for end in ends]
    assert [part.start for part in parts] == [0, *ends[:2]]


def test_targets_in_changes_are_changes_over_the_horizon():
    series = make_series()
    task = make_forecast_task(series, targets=["a"], features=["b", "a"], horizon=3)
    assert task.places == (1,)
    a = series.select(["a"])
    plain = task.sample_targets() * task.output.scale + task.output.mean
    np.testing.assert_allclose(plain, a[3:] - a[:-3])


def test_targets_in_levels_are_values():
    series = make_series()
    task = make_forecast_task(series, targets=["a"], horizon=3, in_changes=False)
    plain = task.sample_targets() * task.output.scale + task.output.mean
    np.testing.assert_allclose(plain, series.select(["a"])[3:])


def test_a_target_that_is_no_feature_means_levels():
    series = make_series()
    assert make_forecast_task(series, targets=["a"], features=["b"], horizon=1).places is None
    with pytest.raises(SettingsError, match="'a' is not"):
        make_forecast_task(series, targets=["a"], features=["b"], horizon=1, in_changes=True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"targets": ["c"]}, "'c'; there are a, b"),
        ({"targets": []}, "at least one target"),
        ({"targets": ["a"], "features": ["a", "z"]}, "'z'"),
        ({"targets": ["a"], "horizon": 0}, "at least 1 step, not 0"),
    ],
)
def test_what_is_wrong_with_a_task_is_said(wrong, words):
    with pytest.raises(SettingsError, match=words):
        make_forecast_task(make_series(), **({"horizon": 1} | wrong))


def test_persistence_says_that_nothing_changes():
    values = np.arange(10.0)[:, None]
    forecast = baselines.persistence(values, 3)
    np.testing.assert_array_equal(forecast, values[:7])
    found = baselines.score(forecast, values[3:])
    np.testing.assert_array_equal([found.mae, found.rmse], [[3], [3]])


@pytest.mark.parametrize(("horizon", "season"), [(1, 5), (5, 5), (7, 5), (11, 5)])
def test_seasonal_naive_is_perfect_on_a_season_and_looks_nowhere_ahead(horizon, season):
    values = np.tile(np.arange(5.0), 8)[:, None]
    forecast = baselines.seasonal_naive(values, horizon, season)
    known = ~np.isnan(forecast[:, 0])
    assert known.sum() >= 40 - horizon - season
    np.testing.assert_array_equal(forecast[known], values[horizon:][known])
    # Row t must not change with anything after t.
    changed = values.copy()
    changed[20:] = 99
    after = baselines.seasonal_naive(changed, horizon, season)
    np.testing.assert_array_equal(after[:20], forecast[:20])


@pytest.mark.parametrize("value", [1e300, -1e300, 3e38])
def test_values_beyond_single_precision_are_refused_without_a_warning(value):
    series = make_series(100)
    series.values[7, 1] = value
    with pytest.raises(SettingsError, match=r"Column 'b' holds values as large as .*e\+"):
        make_forecast_task(series, targets=["a"], horizon=1)
