"""Choose the settings on TRAIN alone: `python -m examples.vowels.choose`.

Each candidate is trained five times, each time without another fifth of every speaker's
utterances, and judged on that fifth. TEST is not read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from rich.console import Console

from carousel_exporter.accuracy import judge_answers
from carousel_exporter.commands.assigning import DEFAULTS
from carousel_exporter.labelling import LabelLesson, answer_sequences, make_label_task
from carousel_exporter.sequences import Sequences
from carousel_exporter.settings import TrainingSettings
from carousel_exporter.source import use_one_thread
from carousel_exporter.training import train
from examples.common.tables import make_table
from examples.vowels.settings import SETTINGS
from examples.vowels.utterances import read_train

FOLDS: Final = 5
#: Columns of the table, also where there is no terminal to tell.
WIDTH: Final = 120
CANDIDATES: Final[tuple[Mapping[str, Any], ...]] = (
    {},
    {"cell": "gru"},
    {"cell": "gru", "hidden": 128},
    {"cell": "gru", "hidden": 128, "label_smoothing": 0.1},
    {"cell": "gru", "hidden": 128, "recurrent_dropout": 0.5},
    {"cell": "gru", "hidden": 128, "label_smoothing": 0.1, "recurrent_dropout": 0.5},
    SETTINGS,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge every candidate and show the table."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.vowels.choose", description="Choose settings on TRAIN alone."
    )
    parser.add_argument("--epochs", type=int, default=DEFAULTS["classify"]["epochs"])
    given = parser.parse_args(arguments)
    use_one_thread()
    right = ("last step", "all steps", "least", "most")
    table = make_table("right on the fifth left out, mean of 5", right=right, last=False)
    data = read_train()
    for candidate in CANDIDATES:
        pairs = [judge(candidate, *fold, epochs=given.epochs) for fold in folds(data)]
        last, steps = np.array(pairs).T
        cells = (last.mean(), steps.mean(), last.min(), last.max())
        table.add_row(worded(candidate), *(f"{cell:.1%}" for cell in cells))
    Console(highlight=False, width=WIDTH).print(table)
    return 0


def folds(data: Sequences) -> Iterator[tuple[Sequences, Sequences]]:
    """Yield what to learn from and what to be judged on, by utterances of each speaker."""
    last = np.array([labels[-1] for labels in data.labels])
    place = np.empty(len(last), np.int64)  # of an utterance among its speaker's
    for speaker in np.unique(last):
        members = np.flatnonzero(last == speaker)
        place[members] = np.arange(len(members))
    for fold in range(FOLDS):
        held_out = place % FOLDS == fold
        parts = [np.flatnonzero(~held_out).tolist(), np.flatnonzero(held_out).tolist()]
        yield data.pick(parts[0]), data.pick(parts[1])


def judge(
    candidate: Mapping[str, Any], known: Sequences, held_out: Sequences, *, epochs: int
) -> tuple[float, float]:
    """Return the accuracy on utterances left out, at the last step and over all."""
    usual = {name: value for name, value in DEFAULTS["classify"].items() if name in FIELDS}
    settings = TrainingSettings(**usual | {"epochs": epochs} | dict(candidate))
    task = make_label_task(known, held_out)
    network = train(LabelLesson(task), settings).best.forecaster
    found = judge_answers(answer_sequences(network, held_out), held_out, known)
    return found.last, found.steps


FIELDS: Final = frozenset(TrainingSettings.__dataclass_fields__)


def worded(candidate: Mapping[str, Any]) -> str:
    """Return what a candidate changes."""
    return ", ".join(f"{name} {value}" for name, value in candidate.items()) or "the defaults"


if __name__ == "__main__":
    sys.exit(main())
