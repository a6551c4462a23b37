"""How often a classifier is right: at the last step, at every step, and the more it has heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carousel_exporter.data import Array
from carousel_exporter.sequences import Sequences

#: Of how many equal parts of a sequence the accuracy is told.
PARTS = 20


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers, from 0 to 1.

    `last` is at the last step of each sequence, `steps` over all steps, `majority` what always
    answering the class that most steps of the training part have comes to at the last step.
    `heard` (K,) are parts of a sequence, from just above 0 to 1, and `over_heard` (K,) the share of
    sequences that are right once so much was heard. `classes` are those at the last step, by class,
    NaN where the test part has none, and `counts` the sequences of each, (C,).
    """

    last: float
    steps: float
    majority: float
    heard: Array
    over_heard: Array
    classes: Array
    counts: Array


def judge_answers(answers: Sequence[Array], test: Sequences, train: Sequences) -> Accuracy:
    """Compare answers, (T, C) for each sequence of the test part, with its labels."""
    right = [
        answer.argmax(axis=1) == labels for answer, labels in zip(answers, test.labels, strict=True)
    ]
    last = np.array([each[-1] for each in right])  # (N,)
    truth = np.array([labels[-1] for labels in test.labels])
    common = np.bincount(np.concatenate(train.labels)).argmax()
    heard = np.arange(1, PARTS + 1) / PARTS
    over_heard = [np.mean([each[_step(part, len(each))] for each in right]) for part in heard]
    counts = np.bincount(truth, minlength=len(test.classes)).astype(np.float64)
    hits = np.bincount(truth, weights=last, minlength=len(test.classes))
    return Accuracy(
        last=float(last.mean()),
        steps=float(np.concatenate(right).mean()),
        majority=float((truth == common).mean()),
        heard=heard,
        over_heard=np.array(over_heard),
        classes=np.where(counts > 0, hits / np.maximum(counts, 1), np.nan),
        counts=counts,
    )


def _step(part: float, length: int) -> int:
    """Return the step at which a part of a sequence has been heard."""
    return max(0, int(np.ceil(part * length - 1e-9)) - 1)
