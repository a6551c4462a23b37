"""Learning to label: parts, weights, padding, and that it learns."""

import dataclasses

import numpy as np
import pytest
import torch

from carousel_exporter.accuracy import judge_answers
from carousel_exporter.errors import SettingsError
from carousel_exporter.labelling import (
    LabelLesson,
    answer_sequences,
    make_label_task,
    weigh,
)
from carousel_exporter.lesson import NO_CLASS
from carousel_exporter.sequences import Sequences, read_sequences
from carousel_exporter.settings import TrainingSettings
from carousel_exporter.training import train

from .labelled import write_gestures

QUICK = TrainingSettings(window=64, batch=6, hidden=12, epochs=25, learning_rate=1e-2, seed=1)


@pytest.fixture(scope="module")
def gestures(tmp_path_factory):
    path = write_gestures(tmp_path_factory.mktemp("gestures") / "g.csv")
    return read_sequences(path, sequence="id", label="kind")


def sequences(*labels: list[int], classes=("a", "b")) -> Sequences:
    values = tuple(np.full((len(each), 1), place, float) for place, each in enumerate(labels))
    names = tuple(f"sequence {place}" for place in range(len(labels)))
    return Sequences(("x",), classes, values, tuple(map(np.array, labels)), names, {"x": 0})


def test_it_learns_and_tells_earlier_than_at_the_end(gestures):
    task = make_label_task(gestures)
    result = train(LabelLesson(task), QUICK)
    answers = answer_sequences(result.best.network, task.test)
    found = judge_answers(answers, task.test, task.train)
    assert found.last == 1.0
    assert found.majority < 0.5
    assert found.over_heard[0] < found.over_heard[-1] == found.last
    for answer, values in zip(answers, task.test.values, strict=True):
        assert answer.shape == (len(values), 3)
        np.testing.assert_allclose(np.exp(answer).sum(axis=1), 1, rtol=1e-5)


def test_labels_a_step_are_learnt_a_step():
    """The label is whether the last two values had one sign: the network must remember."""
    rng = np.random.default_rng(0)
    values = tuple(rng.choice([-1.0, 1.0], (12, 1)) for _ in range(60))
    labels = tuple(np.concatenate([[0], v[1:, 0] == v[:-1, 0]]).astype(np.int64) for v in values)
    names = tuple(f"sequence {place}" for place in range(60))
    data = Sequences(("x",), ("differ", "same"), values, labels, names, {"x": 0})
    assert data.is_labelled_by_step
    task = make_label_task(data)
    network = train(LabelLesson(task), QUICK).best.network
    found = judge_answers(answer_sequences(network, task.test), task.test, task.train)
    assert found.steps > 0.99


def test_padding_teaches_nothing(gestures):
    """A batch of sequences of different lengths has the loss of each alone, weighted by steps."""
    task = make_label_task(gestures)
    lesson = LabelLesson(task)
    network = lesson.build(QUICK).eval()
    together = dataclasses.replace(QUICK, batch=100)
    (window,) = next(iter(lesson.passes(together)))
    assert window.count == sum(len(each) for each in task.train.labels)
    assert (window.target == NO_CLASS).any()
    with torch.no_grad():
        mixed = lesson.loss(network.normalised(window.x)[0], window, QUICK).item()
        alone, steps = 0.0, 0
        for windows in lesson.passes(dataclasses.replace(QUICK, batch=1)):
            for each in windows:
                loss = lesson.loss(network.normalised(each.x)[0], each, QUICK).item()
                alone, steps = alone + loss * each.count, steps + each.count
    assert mixed == pytest.approx(alone / steps, rel=1e-5)


def test_long_sequences_are_cut_into_windows_that_go_on(gestures):
    lesson = LabelLesson(make_label_task(gestures))
    for windows in lesson.passes(dataclasses.replace(QUICK, window=4)):
        assert all(len(window.x) == 4 for window in windows[:-1])
        assert len({window.x.shape[1] for window in windows}) == 1


def test_each_part_has_its_share_of_every_class(gestures):
    task = make_label_task(gestures, validation=0.2, test_fraction=0.3)
    for part, each in ((task.train, 5), (task.validation, 2), (task.test, 3)):
        last = [int(labels[-1]) for labels in part.labels]
        assert [last.count(c) for c in range(3)] == [each] * 3
    names = [*task.train.names, *task.validation.names, *task.test.names]
    assert sorted(names) == sorted(gestures.names)


def test_the_statistics_are_those_of_the_training_part(gestures):
    task = make_label_task(gestures)
    whole = np.concatenate(task.train.values)
    np.testing.assert_allclose(task.levels.mean, whole.mean(axis=0))
    network = LabelLesson(task).build(QUICK)
    np.testing.assert_allclose(network.input_mean.numpy(), whole.mean(axis=0), rtol=1e-5)


def test_a_label_in_the_test_part_alone_is_named():
    data = sequences([0, 0], [0, 0], [0], [0, 0])
    test = sequences([0], [0, 1])
    with pytest.raises(SettingsError, match=r"label 'b' \(sequence 1\) is in no sequence that"):
        make_label_task(data, test)


def test_a_class_without_sequences_is_named():
    data = sequences(*[[0, 0]] * 8)
    with pytest.raises(SettingsError, match="no sequence with the label 'b'"):
        make_label_task(data, validation=0.3, test_fraction=0.3)


def test_one_class_is_nothing_to_tell_apart(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("id,a,kind\n" + "".join(f"{n},{n},slow\n" for n in range(20)))
    data = read_sequences(path, sequence="id", label="kind")
    with pytest.raises(SettingsError, match="have 1 class, 'slow', and there must be 2 at least"):
        make_label_task(data)


@pytest.mark.parametrize(
    ("fractions", "words"),
    [
        ({"validation": 5}, "validation and test parts must be above 0 .* not 5 and 0.15"),
        ({"validation": 0}, "not 0 and 0.15"),
        ({"test_fraction": float("nan")}, "not 0.15 and nan"),
        ({"validation": 0.6, "test_fraction": 0.5}, "leave room for training"),
        ({"test": True, "validation": 1}, "The validation part must be above 0 .* not 1 of"),
    ],
)
def test_parts_that_are_no_parts_are_refused(gestures, fractions, words):
    test = gestures if fractions.pop("test", False) else None
    with pytest.raises(SettingsError, match=words):
        make_label_task(gestures, test, **fractions)


def test_too_few_sequences_are_refused():
    with pytest.raises(SettingsError, match="validation part would hold no sequence of 2"):
        make_label_task(sequences([0], [1]))


def test_weights():
    data = sequences([0, 0, 0], [1])
    np.testing.assert_allclose(weigh("", data), [1, 1])
    balanced = weigh("balanced", data)
    np.testing.assert_allclose(balanced, [2 / 3, 2])
    assert (balanced * [3, 1]).sum() / 4 == pytest.approx(1)  # the mean over steps
    heavy = weigh("b=3", data)
    assert heavy[1] / heavy[0] == pytest.approx(3)


def test_weights_change_the_loss():
    data = sequences([0, 0, 0], [1, 1], [0, 0, 0], [1, 1])
    losses = []
    for words in ("", "b=100"):
        task = make_label_task(data, data, validation=0.5, class_weights=words)
        lesson = LabelLesson(task)
        torch.manual_seed(0)
        losses.append(lesson.validate(lesson.build(QUICK).eval(), QUICK))
    assert losses[0] != pytest.approx(losses[1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("c=1", "class 'c', and there are a, b"),
        ("a=x", "'a=x'"),
        ("a=0", "above 0"),
        ("a", "not 'a'"),
    ],
)
def test_weights_that_say_nothing_are_refused(words, said):
    with pytest.raises(SettingsError, match=said):
        weigh(words, sequences([0], [1]))


def test_smoothing_is_for_training_alone(gestures):
    lesson = LabelLesson(make_label_task(gestures))
    network = lesson.build(QUICK).eval()
    smooth = dataclasses.replace(QUICK, label_smoothing=0.5)
    (window,) = next(iter(lesson.passes(QUICK)))
    answer = network.normalised(window.x)[0] * 5
    assert lesson.loss(answer, window, smooth) != lesson.loss(answer, window, QUICK)
    assert lesson.validate(network, smooth) == lesson.validate(network, QUICK)
