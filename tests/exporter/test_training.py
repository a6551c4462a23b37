import dataclasses
import itertools

import numpy as np
import pytest
import torch

from carousel_exporter.data import Series
from carousel_exporter.errors import SettingsError
from carousel_exporter.forecast_evaluation import evaluate_forecast
from carousel_exporter.forecast_task import make_forecast_task, part_of_samples
from carousel_exporter.forecasting import ForecastLesson, forecast
from carousel_exporter.lesson import cut_streams
from carousel_exporter.settings import TrainingSettings
from carousel_exporter.training import predict, train

from .builders import QUICK, make_series


@pytest.fixture(scope="module")
def task():
    return make_forecast_task(make_series(), targets=["a"], features=["a"], horizon=3)


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_training_improves_on_its_start_and_beats_the_baselines(task):
    settings = dataclasses.replace(QUICK, epochs=40, hidden=16)
    result = train(ForecastLesson(task), settings)
    assert result.best.loss < 0.2 * result.epochs[0].validation_loss
    scores = evaluate_forecast(result.best.network, task, season=20).scores
    assert scores["LSTM"].mae[0] < 0.5 * scores["persistence"].mae[0]
    assert scores["LSTM"].mae[0] < scores["seasonal naive"].mae[0]


def test_levels_can_be_learnt_too():
    series = make_series()
    flat = Series(("a",), series.select(["a"]) - 0.02 * np.arange(400)[:, None], (), 0, {"a": 0})
    task = make_forecast_task(flat, targets=["a"], horizon=3, in_changes=False)
    result = train(ForecastLesson(task), dataclasses.replace(QUICK, epochs=40, hidden=16))
    scores = evaluate_forecast(result.best.network, task).scores
    assert scores["LSTM"].mae[0] < 0.5 * scores["persistence"].mae[0]


def test_the_same_seed_gives_the_same_network_and_another_another(task):
    settings = dataclasses.replace(QUICK, epochs=2, layers=2, dropout=0.3)
    one, two = train(ForecastLesson(task), settings), train(ForecastLesson(task), settings)
    assert one.epochs == two.epochs
    assert same(one.best.network, two.best.network)
    other = train(ForecastLesson(task), dataclasses.replace(settings, seed=9))
    assert not same(one.best.network, other.best.network)


def test_training_leaves_the_callers_generator_alone(task):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(ForecastLesson(task), dataclasses.replace(QUICK, epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_held_out_part_is_not_trained_on(task):
    values = task.inputs.copy()
    values[task.split.validation :] = -1e3
    changed = dataclasses.replace(task, inputs=values, truth=values)
    assert same(
        train(ForecastLesson(task), QUICK).best.network,
        train(ForecastLesson(changed), QUICK).best.network,
    )


def test_an_interrupt_keeps_the_best_network_so_far(task):
    whole = train(ForecastLesson(task), QUICK)
    kept = []

    def interrupt(epoch, result):
        kept.append(result.best)
        if epoch.number == 4:
            raise KeyboardInterrupt

    result = train(ForecastLesson(task), QUICK, on_epoch=interrupt)
    assert result.interrupted
    assert not whole.interrupted
    assert result.epochs == whole.epochs[:4]
    assert result.best is kept[-1]
    assert result.best.loss == min(epoch.validation_loss for epoch in whole.epochs[:4])
    validation = part_of_samples(task, "validation")
    answers = forecast(result.best.network, task)[validation]
    assert np.isfinite(answers).all()


def test_an_interrupt_before_the_first_epoch_is_told_apart(task, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("carousel_exporter.forecasting.cut_streams", interrupt)
    result = train(ForecastLesson(task), QUICK)
    assert result.interrupted
    assert result.best.epoch == 0


def test_training_stops_when_validation_no_longer_gets_better(task):
    settings = dataclasses.replace(QUICK, epochs=60, patience=3, learning_rate=0.1)
    result = train(ForecastLesson(task), settings)
    assert len(result.epochs) < 60
    assert len(result.epochs) == result.best.epoch + 3


def test_the_learning_rate_falls_when_learning_stalls(task):
    settings = dataclasses.replace(QUICK, epochs=30, patience=30, learning_rate=0.2)
    rates = [epoch.learning_rate for epoch in train(ForecastLesson(task), settings).epochs]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0]


def test_a_loss_that_explodes_is_said(task):
    with pytest.raises(SettingsError, match="lower --lr"):
        train(ForecastLesson(task), dataclasses.replace(QUICK, learning_rate=1e30, clip=1e30))


def test_streams_are_contiguous_and_side_by_side():
    steps = torch.arange(100.0)[:, None]  # (N, 1)
    settings = TrainingSettings(window=8, batch=4)
    torch.manual_seed(0)
    windows = cut_streams(steps, steps + 3, settings)
    x = torch.cat([window.x for window in windows])[..., 0]  # (L, B)
    y = torch.cat([window.target for window in windows])[..., 0]
    assert x.shape[1] == 4
    assert all(len(window.x) == 8 for window in windows[:-1])
    assert (x.diff(dim=0) == 1).all()  # each stream goes on where its last window ended
    assert (x[0, 1:] == x[-1, :-1] + 1).all()  # and the next stream begins there
    assert torch.equal(y, x + 3)


def test_the_state_is_carried_from_window_to_window_without_its_gradient(task, monkeypatch):
    network = ForecastLesson(task).build(QUICK)
    seen = []
    original = type(network).normalised

    def spy(self, x, state=None):
        answer, new = original(self, x, state)
        if self.training:
            seen.append((state, new))
        return answer, new

    monkeypatch.setattr(type(network), "normalised", spy)
    train(ForecastLesson(task), dataclasses.replace(QUICK, epochs=1))
    assert len(seen) > 2
    assert seen[0][0] is None
    for (_, left), (given, _) in itertools.pairwise(seen):
        for name, value in given.items():
            assert torch.equal(value, left[name])
            assert not value.requires_grad


def test_predict_answers_whole_batches_in_plain_units(task):
    network = ForecastLesson(task).build(QUICK).eval()
    x = task.inputs[:20, None].repeat(3, axis=1)
    y = predict(network, x)
    assert y.shape == (20, 3, 1)
    assert y.dtype == np.float32
    assert 280 < y.mean() < 320


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"window": 0}, "window must be at least 1, not 0"),
        ({"dropout": 1.0, "layers": 2}, "dropout"),
        ({"dropout": 0.1}, "no between"),
        ({"learning_rate": 0.0}, "learning rate"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(SettingsError, match=words):
        TrainingSettings(**wrong)


def test_a_season_longer_than_the_history_is_refused(task):
    with pytest.raises(SettingsError, match="not 399"):
        evaluate_forecast(ForecastLesson(task).build(QUICK), task, season=399)
