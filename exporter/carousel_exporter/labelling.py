"""Learning to label: sequences in, the probability of each class out, at every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from carousel_exporter.data import Array, Statistics
from carousel_exporter.errors import SettingsError
from carousel_exporter.lesson import NO_CLASS, Window, begin
from carousel_exporter.network import Architecture, RecurrentNetwork
from carousel_exporter.sequences import Sequences
from carousel_exporter.settings import TrainingSettings
from carousel_exporter.wording import counted

#: Sequences that are judged together.
JUDGED_TOGETHER = 256


@dataclass(frozen=True)
class LabelTask:
    """Tell the class of each step; three parts, and the statistics of the training part alone.

    `weights` are those of the classes in the loss, (C,).
    """

    train: Sequences
    validation: Sequences
    test: Sequences
    levels: Statistics
    weights: Array


def make_label_task(
    data: Sequences,
    test: Sequences | None = None,
    *,
    validation: float = 0.15,
    test_fraction: float = 0.15,
    class_weights: str = "",
) -> LabelTask:
    """Split sequences into parts; `test` are sequences of a file of its own, if there is one.

    Of every class, evenly spaced sequences go to validation and test (a sequence's class is its
    last step's). `class_weights` is empty, "balanced", or "a=2,b=0.5", where others weigh 1. Raises
    SettingsError where a part would be empty, or a class is not among those trained on.
    """
    if len(data.classes) < 2:
        raise SettingsError(
            f"The data have {counted(len(data.classes), 'class')}, "
            f"{', '.join(map(repr, data.classes))}, and there must be 2 at least to tell apart."
        )
    _check_parts({"validation": validation} | ({} if test is not None else {"test": test_fraction}))
    places: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    fractions = (validation, 0.0 if test is not None else test_fraction)
    for members in _by_class(data):
        for which, chosen in zip(places, _share_out(members, fractions), strict=True):
            places[which].extend(chosen)
    if test is None:
        test = data.pick(sorted(places["test"]))
    train = data.pick(sorted(places["train"]))
    held_out = data.pick(sorted(places["validation"]))
    for which, part in (("validation", held_out), ("test", test)):
        if not part.values:
            raise SettingsError(
                f"The {which} part would hold no sequence of {len(data.values)}: give more "
                f"sequences, or a larger fraction."
            )
    _check_classes(train, held_out, test)
    return LabelTask(train, held_out, test, train.statistics(), weigh(class_weights, train))


def weigh(words: str, train: Sequences) -> Array:
    """Return the weight of each class, (C,); their mean over the training part's steps is 1.

    "balanced" weighs a class by the inverse of how often it is. Raises SettingsError on words
    that say nothing.
    """
    counts = np.bincount(np.concatenate(train.labels), minlength=len(train.classes))
    weights = np.ones(len(train.classes))
    if words == "balanced":
        weights = 1 / counts
    elif words:
        for pair in words.split(","):
            name, _, number = pair.rpartition("=")
            weights[_known(name.strip(), train.classes)] = _positive(number, pair)
    return np.asarray(weights * counts.sum() / (weights * counts).sum())


class LabelLesson:
    """A labelling task as training sees it; losses are cross-entropies in nats, weighted."""

    def __init__(self, task: LabelTask) -> None:
        self.task = task
        self._rows = _tensors(task.train)
        self._held_out = _tensors(task.validation)
        self._weights = torch.from_numpy(task.weights.astype(np.float32))  # (C,)

    def build(self, settings: TrainingSettings) -> RecurrentNetwork:
        """Return an untrained network, scaled as the training part is."""
        task = self.task
        network = begin(
            Architecture(
                features=len(task.train.columns),
                hidden=settings.hidden,
                layers=settings.layers,
                outputs=len(task.train.classes),
                log_probabilities=True,
            ),
            settings,
        )
        network.input_mean.copy_(torch.from_numpy(task.levels.mean))
        network.input_scale.copy_(torch.from_numpy(task.levels.scale))
        return network

    def passes(self, settings: TrainingSettings) -> Iterator[list[Window]]:
        """Yield the sequences in random order, `batch` side by side, cut into windows."""
        for chosen in torch.split(torch.randperm(len(self._rows)), settings.batch):
            yield _windows([self._rows[row] for row in chosen.tolist()], settings.window)

    def loss(self, answer: Tensor, window: Window, settings: TrainingSettings) -> Tensor:
        """Return the mean cross-entropy of the steps that are there, smoothed."""
        return self._cross_entropy(answer, window, settings.label_smoothing)

    def validate(self, network: RecurrentNetwork, settings: TrainingSettings) -> float:  # noqa: ARG002
        """Return the loss over all steps of the validation part."""
        total, count = 0.0, 0
        for start in range(0, len(self._held_out), JUDGED_TOGETHER):
            rows = self._held_out[start : start + JUDGED_TOGETHER]
            (window,) = _windows(rows, max(len(x) for x, _ in rows))
            answer, _ = network.normalised(window.x)
            total += self._cross_entropy(answer, window).item() * window.count
            count += window.count
        return total / count

    def _cross_entropy(self, answer: Tensor, window: Window, smoothing: float = 0.0) -> Tensor:
        return nn.functional.cross_entropy(
            answer.flatten(0, 1),
            window.target.flatten(),
            weight=self._weights,
            ignore_index=NO_CLASS,
            label_smoothing=smoothing,
        )


@torch.inference_mode()
def answer_sequences(network: RecurrentNetwork, sequences: Sequences) -> list[Array]:
    """Return the log-probabilities of the classes at each step, (T, C) for each sequence."""
    answers: list[Array] = []
    rows = _tensors(sequences)
    for start in range(0, len(rows), JUDGED_TOGETHER):
        some = rows[start : start + JUDGED_TOGETHER]
        y, _ = network(pad_sequence([x for x, _ in some]))  # (T, B, C)
        answers += [y[: len(x), row].numpy().astype(np.float64) for row, (x, _) in enumerate(some)]
    return answers


def _by_class(data: Sequences) -> list[list[int]]:
    """Return the sequences whose last step is of each class, as places."""
    last = [int(labels[-1]) for labels in data.labels]
    return [[p for p, c in enumerate(last) if c == each] for each in range(len(data.classes))]


def _share_out(members: Sequence[int], fractions: tuple[float, float]) -> list[list[int]]:
    """Return the members of the training, validation and test parts, evenly spaced for the two."""
    left, parts = list(members), []
    for fraction in reversed(fractions):
        wanted = min(round(fraction * len(members)), max(0, len(left) - 1))
        spaced = (np.arange(wanted) + 0.5) * len(left) / max(1, wanted)
        chosen = {left[int(place)] for place in spaced}
        parts.append([each for each in left if each in chosen])
        left = [each for each in left if each not in chosen]
    return [left, *reversed(parts)]


def _check_parts(parts: Mapping[str, float]) -> None:
    """Raise SettingsError where held-out parts are no fractions, or leave no room for training."""
    if all(0 < part < 1 for part in parts.values()) and sum(parts.values()) < 1:
        return
    raise SettingsError(
        f"The {' and '.join(parts)} part{'s' if len(parts) > 1 else ''} must be above 0 and leave "
        f"room for training, not {' and '.join(f'{part:g}' for part in parts.values())} of the "
        "sequences."
    )


def _check_classes(train: Sequences, *held_out: Sequences) -> None:
    """Raise SettingsError where a class is judged that was never seen."""
    known = set(np.concatenate(train.labels).tolist())
    for part in held_out:
        for labels, name in zip(part.labels, part.names, strict=True):
            unseen = sorted(set(labels.tolist()) - known)
            if unseen:
                raise SettingsError(
                    f"The label {train.classes[unseen[0]]!r} ({name}) is in no sequence that is "
                    "trained on: give one with it, or leave it out."
                )
    missing = sorted(set(range(len(train.classes))) - known)
    if missing:
        raise SettingsError(
            f"There is no sequence with the label {train.classes[missing[0]]!r}, which the data "
            "declare."
        )


def _known(name: str, classes: Sequence[str]) -> int:
    if name not in classes:
        raise SettingsError(
            f"--class-weights names the class {name!r}, and there are {', '.join(classes)}."
        )
    return classes.index(name)


def _positive(number: str, pair: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not (0 < value < float("inf")):
        raise SettingsError(
            f"--class-weights takes balanced, or CLASS=WEIGHT,… with weights above 0, not {pair!r}."
        )
    return value


Rows = list[tuple[Tensor, Tensor]]


def _tensors(sequences: Sequences) -> Rows:
    return [
        (torch.from_numpy(values.astype(np.float32)), torch.from_numpy(labels))
        for values, labels in zip(sequences.values, sequences.labels, strict=True)
    ]


def _windows(rows: Rows, length: int) -> list[Window]:
    """Lay rows side by side, (T, B, F) and (T, B), and cut them into windows."""
    x = pad_sequence([values for values, _ in rows])
    target = pad_sequence([labels for _, labels in rows], padding_value=NO_CLASS)
    pairs = zip(torch.split(x, length), torch.split(target, length), strict=True)
    return [Window(a, b, int((b != NO_CLASS).sum())) for a, b in pairs]
