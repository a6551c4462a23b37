"""Trial runs: from how many rows on several threads are used, and that answers stay the same."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server import trials
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import read_model
from carousel_server.runtime.model import LoadedModel
from tests.support import models
from tests.support.loaded import run, states


def two_threads(folder, made, *, slots=1024):
    file = read_model(models.put(folder, made))
    return LoadedModel(file, device=Device("cpu"), slots=slots, threads=2)


@pytest.fixture
def seconds(monkeypatch):
    """Let a test say how long a run of so many rows takes, on one thread and on several."""

    def say(alone, together):
        def answer(model, rows, _steps):
            return (alone if model.wide_from is None else together)(rows)

        monkeypatch.setattr(trials, "_seconds", answer)

    return say


@pytest.mark.parametrize(
    ("alone", "together", "expected"),
    [
        (lambda rows: rows * 1e-3, lambda rows: rows * 1.5e-3, None),  # slower together
        (lambda rows: rows * 1e-3, lambda rows: rows * 0.5e-3, 1),  # always twice as fast
        (lambda rows: rows * 1e-5, lambda rows: rows * 0.5e-5, 128),  # shorter ones are left alone
        (
            lambda rows: rows * 1e-5,
            lambda rows: rows * 1.05e-5,
            128,
        ),  # who knows, on a busy machine
        # What it costs to wake threads is paid back there.
        (lambda rows: rows * 1e-5, lambda rows: 3e-3 + rows * 0.5e-5, 512),
        # A chance among the smaller ones.
        (lambda rows: rows * 1e-5, lambda rows: 1e-9 if rows == 128 else rows * 2e-5, None),
        (lambda rows: rows * 1e-5, lambda rows: 1e-9 if rows > 700 else rows * 2e-5, 1024),
    ],
)
def test_threads_are_used_from_where_they_are_worth_it(
    tmp_path, seconds, alone, together, expected
):
    model = two_threads(tmp_path, models.running_sum())
    seconds(alone, together)
    trials.choose_width(model)
    assert model.wide_from == expected
    assert model.may_widen == (expected is not None)  # what is of no use is given back


def test_no_more_rows_are_tried_than_a_run_may_hold(tmp_path, seconds):
    model = two_threads(tmp_path, models.running_sum(max_batch=8))
    tried = []
    seconds(lambda rows: tried.append(rows) or rows * 1e-3, lambda rows: rows * 0.5e-3)
    trials.choose_width(model)
    assert tried == [1, 2, 4, 8]
    assert model.wide_from == 1


def test_a_slow_model_is_tried_no_further_than_needed(tmp_path, seconds):
    model = two_threads(tmp_path, models.running_sum())
    tried = []
    seconds(lambda rows: tried.append(rows) or rows * 0.01, lambda rows: rows * 0.005)
    trials.choose_width(model)
    assert tried == [1, 2, 4]


def test_no_more_rows_are_tried_than_there_are_slots(tmp_path, seconds):
    model = two_threads(tmp_path, models.running_sum(), slots=5)
    tried = []
    seconds(lambda rows: tried.append(rows) or rows * 1e-3, lambda rows: rows * 0.5e-3)
    trials.choose_width(model)
    assert tried == [1, 2, 4]


def test_a_model_that_takes_fewer_rows_than_it_might_have_to_is_served_nevertheless(tmp_path):
    model = two_threads(tmp_path, models.raises_above(16))
    trials.choose_width(model)
    assert model.wide_from is None


def test_trials_leave_no_buffers_behind(tmp_path):
    model = two_threads(tmp_path, models.running_sum(max_batch=8))
    trials.choose_width(model)
    assert model._narrow._nbytes == 0
    run(model, [1], np.ones((1, 2), np.float32))
    assert model._narrow._nbytes > 0


def test_what_one_round_does_not_show_another_may(tmp_path, seconds):
    model = two_threads(tmp_path, models.running_sum(max_batch=1))
    rounds = iter([2e-3, 2e-3, 1e-3])
    seconds(lambda _: 1e-3, lambda _: next(rounds))
    trials.choose_width(model)
    assert model.wide_from == 1


def test_sessions_go_from_small_runs_to_large_ones_and_back(tmp_path):
    """Both ways of running a model share one pool."""
    model = two_threads(tmp_path, models.running_sum())
    model.wide_from = 4
    rng = np.random.default_rng(0)
    slots = np.arange(1, 9)
    total = np.zeros((8, 2), np.float32)
    for rows in (1, 8, 3, 4, 8, 2, 5):
        x = rng.normal(size=(rows, 2)).astype(np.float32)
        total[:rows] += x
        y, bad = run(model, slots[:rows].tolist(), x[None] if model.spec.time_axis else x)
        assert not any(bad)
        np.testing.assert_allclose(np.reshape(y, (rows, 2)), total[:rows], rtol=1e-6)
    (state,) = states(model, *slots.tolist()).values()
    np.testing.assert_allclose(state, total, rtol=1e-6)
