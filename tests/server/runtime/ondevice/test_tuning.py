"""What was measured, kept, and followed."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.runtime.ondevice import choosing, tuning
from carousel_server.runtime.ondevice.tuning import Tuning, TuningCache, grid
from tests.support.ondevice import inputs, open_on_device
from tests.support.recurrent import cell

TUNING = Tuning(
    {"operators": {1: 3.0, 2: 4.0, 4: 9.0}, "decomposed": {1: 5.0, 2: 3.5, 4: 8.0}},
    {(2, 1): 1.0, (8, 1): 4.0, (2, 16): 2.0, (8, 16): 8.0},
)


def test_the_fastest_way_of_each_bucket():
    assert [TUNING.best(size) for size in (1, 2, 4)] == ["operators", "decomposed", "decomposed"]
    assert TUNING.costs() == {1: 3.0, 2: 3.5, 4: 8.0}


@pytest.mark.parametrize(
    ("steps", "rows", "seconds"),
    [(2, 1, 1.0), (8, 16, 8.0), (5, 1, 2.5), (2, 31, 3.0), (14, 1, 7.0), (2, 8.5, 1.5)],
)
def test_fused_runs_cost_what_lies_between(steps, rows, seconds):
    assert TUNING.fused_seconds(steps, rows) == pytest.approx(seconds)


def test_what_was_never_measured_is_never_chosen():
    assert Tuning({"operators": {1: 1.0}}, {}).fused_seconds(2, 1) == float("inf")
    assert Tuning({"operators": {1: 1.0}}, {(2, 1): 1.0}).fused_seconds(4, 1) == 2.0


def test_a_grid_ends_where_batches_do():
    assert grid((1, 16, 128), 128) == (1, 16, 128)
    assert grid((1, 16, 128), 20) == (1, 16)
    assert grid((4, 16), 2) == (2,)


def test_it_is_kept_by_what_it_depends_on(tmp_path):
    cache = TuningCache(tmp_path / "a" / "b")
    assert cache.load(["model", "GPU"]) is None
    assert cache.save(["model", "GPU"], TUNING)
    assert cache.load(["model", "GPU"]) == TUNING
    assert cache.load(["model", "another GPU"]) is None
    assert len(list((tmp_path / "a" / "b").iterdir())) == 1, "nothing else is left behind"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"steps": 1, "fused": []}', '{"steps": {"a": {"x": 1}}}']
)
def test_a_file_that_is_none_is_as_if_it_was_not_there(tmp_path, text):
    cache = TuningCache(tmp_path)
    cache.path(["m"]).write_text(text)
    assert cache.load(["m"]) is None


def test_a_folder_that_cant_be_written_to_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert not TuningCache(tmp_path / "file" / "folder").save(["m"], TUNING)


def test_a_model_is_tuned_once_on_a_device(tmp_path, monkeypatch):
    options = {"autotune": True, "tuning_folder": tmp_path / "tuning", "largest": 4}
    model = open_on_device(tmp_path, cell("lstm"), **options)
    (kept,) = (tmp_path / "tuning").iterdir()
    measured = model._tuning
    assert measured is not None
    assert measured.steps.keys() == {"operators", "decomposed"}
    assert list(measured.costs()) == [1, 2, 4]
    assert all(seconds > 0 for seconds in measured.fused.values())

    def never(run):
        raise AssertionError("it was measured before")

    monkeypatch.setattr(tuning, "median_seconds", never)
    again = open_on_device(tmp_path, cell("lstm"), **options)
    assert again._tuning == measured
    assert list((tmp_path / "tuning").iterdir()) == [kept]


@pytest.mark.parametrize("way", ["operators", "decomposed"])
def test_each_way_can_win_and_is_right(tmp_path, monkeypatch, way):
    def chosen(self, made):
        return Tuning(
            {name: dict.fromkeys(self.sizes, float(name != way)) for name in made}, {(2, 1): 0.0}
        )

    monkeypatch.setattr(choosing.Choosing, "_measured", chosen)
    model = open_on_device(tmp_path, cell("lstm"), autotune=True)
    values = inputs(model, np.random.default_rng(0), 1, 3)
    came, _ = model.run(np.array([1, 2, 3]), np.ones(3, np.int64), values)
    plain = open_on_device(tmp_path, cell("lstm"))
    wanted, _ = plain._fused.run(np.array([1, 2, 3]), np.ones(3, np.int64), values)
    np.testing.assert_allclose(came["y"], wanted["y"], atol=1e-6)


@pytest.mark.parametrize(("fused", "by_steps"), [(1e-9, False), (1e3, True)])
def test_long_pieces_go_the_cheaper_way(tmp_path, fused, by_steps):
    model = open_on_device(tmp_path, cell("lstm"))
    assert not model._by_steps(np.array([3, 1])), "without measurements: as one run"
    model._tuning = Tuning({"operators": dict.fromkeys(model.steps.sizes, 1.0)}, {(2, 1): fused})
    assert model._by_steps(np.array([3, 1])) is by_steps
    assert model._by_steps(np.array([1, 1])), "single steps always"
