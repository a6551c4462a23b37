"""An interrupted run that goes on comes to the same network as one that was never interrupted."""

import dataclasses

import pytest
import torch

from carousel_exporter import resuming
from carousel_exporter.corpus import make_corpus
from carousel_exporter.errors import CheckpointError, SettingsError
from carousel_exporter.filekinds import PROGRESS_KEY
from carousel_exporter.forecast_task import make_forecast_task
from carousel_exporter.forecasting import ForecastLesson
from carousel_exporter.labelling import LabelLesson, make_label_task
from carousel_exporter.language import TextLesson
from carousel_exporter.sequences import read_sequences
from carousel_exporter.settings import TrainingSettings
from carousel_exporter.training import Trainer

from .builders import make_series
from .labelled import TEXT, write_gestures

#: Everything that draws from a generator or remembers is on.
SETTINGS = TrainingSettings(
    window=16, batch=4, hidden=8, layers=2, epochs=9, patience=3, learning_rate=3e-2, seed=2,
    dropout=0.3, recurrent_dropout=0.3, chrono=20, layer_norm=True, label_smoothing=0.1,
)  # fmt: skip


@pytest.fixture(params=["forecast", "classify", "text"])
def lesson(request, tmp_path):
    if request.param == "forecast":
        return ForecastLesson(make_forecast_task(make_series(), targets=["a"], horizon=3))
    if request.param == "classify":
        path = write_gestures(tmp_path / "g.csv")
        return LabelLesson(make_label_task(read_sequences(path, sequence="id", label="kind")))
    return TextLesson(make_corpus(TEXT))


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def interrupted(lesson, path, *, after, settings=SETTINGS):
    """Train, save after some epochs, and be cut off in the middle of the one after the next."""
    trainer = Trainer(lesson, settings)

    def on_epoch(epoch, _result):
        if epoch.number == after:
            resuming.save_progress(trainer, {"seed": 2}, path)
        if epoch.number == after + 1:
            raise KeyboardInterrupt

    assert trainer.run(on_epoch).interrupted


@pytest.mark.parametrize("after", [1, 4])
def test_the_weights_are_the_same(lesson, tmp_path, after):
    path = tmp_path / "x.pt.resume"
    whole = Trainer(lesson, SETTINGS)
    whole.run()
    interrupted(lesson, path, after=after)
    torch.manual_seed(99)  # whatever else a program drew in between
    resumed = Trainer(lesson, SETTINGS)
    resuming.load_progress(resumed, {"seed": 2}, path)
    assert len(resumed.result.epochs) == after
    result = resumed.run()
    assert not result.interrupted
    assert result.epochs == whole.result.epochs
    assert (result.best.epoch, result.best.loss) == (
        whole.result.best.epoch,
        whole.result.best.loss,
    )
    assert same(result.best.network, whole.result.best.network)
    assert not result.best.network.training
    last, expected = resumed.state(), whole.state()
    assert all(torch.equal(last["network"][k], expected["network"][k]) for k in last["network"])
    assert torch.equal(last["generator"], expected["generator"])


def test_a_run_that_was_over_does_no_more(tmp_path):
    lesson = TextLesson(make_corpus(TEXT))
    settings = dataclasses.replace(SETTINGS, epochs=2)
    trainer = Trainer(lesson, settings)
    trainer.run()
    resuming.save_progress(trainer, {}, tmp_path / "r")
    again = Trainer(lesson, settings)
    resuming.load_progress(again, {}, tmp_path / "r")
    assert len(again.run().epochs) == 2


def test_a_file_of_another_run_is_refused(tmp_path):
    lesson = TextLesson(make_corpus(TEXT))
    path = tmp_path / "r"
    resuming.save_progress(Trainer(lesson, SETTINGS), {"hidden": 8, "data": "a.txt"}, path)
    with pytest.raises(SettingsError, match="run with hidden 8, and this one has 9"):
        resuming.load_progress(Trainer(lesson, SETTINGS), {"hidden": 9, "data": "a.txt"}, path)
    with pytest.raises(SettingsError, match=r"run with data a\.txt, and this one has none"):
        resuming.load_progress(Trainer(lesson, SETTINGS), {"hidden": 8}, path)


def test_files_that_are_none_are_refused(tmp_path):
    trainer = Trainer(TextLesson(make_corpus(TEXT)), SETTINGS)
    path = resuming.path_beside(tmp_path / "x.pt")
    assert path.name == "x.pt.resume"
    with pytest.raises(CheckpointError, match=r"There is no .*x\.pt\.resume to resume from"):
        resuming.load_progress(trainer, {}, path)
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="not what an interrupted"):
        resuming.load_progress(trainer, {}, path)
    torch.save({PROGRESS_KEY: 1, "identity": {}}, path)
    with pytest.raises(CheckpointError, match="has format 1, and this version resumes format 2"):
        resuming.load_progress(trainer, {}, path)
    torch.save({PROGRESS_KEY: resuming.FORMAT, "identity": {}, "trainer": {"best": {}}}, path)
    with pytest.raises(CheckpointError, match=r"is damaged: the weights .* were expected"):
        resuming.load_progress(trainer, {}, path)
