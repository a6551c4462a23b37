"""Choose the settings on TRAIN alone: `python -m examples.vowels.choose`.

Each candidate is trained five times, each time without another fifth of every speaker's
utterances, and judged on that fifth; the two best are once more, with two other seeds, because a
fifth holds 54 utterances and one of them is 2 %. TEST is not read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

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
#: The first seed sifts, all three decide between the best.
SEEDS: Final = (0, 1, 2)
CONTENDERS: Final = 2
#: Columns of the table, also where there is no terminal to tell.
WIDTH: Final = 120
CANDIDATES: Final[tuple[Mapping[str, Any], ...]] = (
    {},
    {"cell": "gru"},
    {"cell": "gru", "hidden": 128},
    {"cell": "gru", "hidden": 128, "label_smoothing": 0.1},
    {"cell": "gru", "hidden": 128, "recurrent_dropout": 0.5},
    {"hidden": 128, "label_smoothing": 0.1, "recurrent_dropout": 0.5},
    SETTINGS,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge every candidate with one seed, and the two best with more; show both tables."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.vowels.choose", description="Choose settings on TRAIN alone."
    )
    parser.add_argument("--epochs", type=int, default=DEFAULTS["classify"]["epochs"])
    given = parser.parse_args(arguments)
    use_one_thread()
    console = Console(highlight=False, width=WIDTH)
    found = {
        place: cross_validate(candidate, epochs=given.epochs, seeds=SEEDS[:1])
        for place, candidate in enumerate(CANDIDATES)
    }
    console.print(tabulate(found, "mean of 5 fifths"))
    best = sorted(found, key=lambda place: -found[place][:, 0].mean())[:CONTENDERS]
    more = {
        place: np.concatenate(
            [found[place], cross_validate(CANDIDATES[place], epochs=given.epochs, seeds=SEEDS[1:])]
        )
        for place in best
    }
    console.print(tabulate(more, f"mean of 5 fifths with {len(SEEDS)} seeds"))
    return 0


def cross_validate(
    candidate: Mapping[str, Any], *, epochs: int, seeds: Sequence[int]
) -> NDArray[np.float64]:
    """Return the accuracies, at the last step and over all, of each fifth and seed: (N, 2)."""
    return np.array(
        [
            judge(candidate, *fold, epochs=epochs, seed=seed)
            for seed in seeds
            for fold in folds(read_train())
        ]
    )


def tabulate(found: Mapping[int, NDArray[np.float64]], told: str) -> Table:
    """Return a table of candidates, by place, and their accuracies (N, 2)."""
    right = ("last step", "all steps", "least", "most")
    table = make_table(f"right on the fifth left out, {told}", right=right, last=False)
    for place, pairs in found.items():
        last, steps = pairs.T
        cells = (last.mean(), steps.mean(), last.min(), last.max())
        table.add_row(worded(CANDIDATES[place]), *(f"{cell:.1%}" for cell in cells))
    return table


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
    candidate: Mapping[str, Any], known: Sequences, held_out: Sequences, *, epochs: int, seed: int
) -> tuple[float, float]:
    """Return the accuracy on utterances left out, at the last step and over all."""
    usual = {name: value for name, value in DEFAULTS["classify"].items() if name in FIELDS}
    settings = TrainingSettings(**usual | {"epochs": epochs, "seed": seed} | dict(candidate))
    task = make_label_task(known, held_out)
    network = train(LabelLesson(task), settings).best.network
    found = judge_answers(answer_sequences(network, held_out), held_out, known)
    return found.last, found.steps


FIELDS: Final = frozenset(TrainingSettings.__dataclass_fields__)


def worded(candidate: Mapping[str, Any]) -> str:
    """Return what a candidate changes."""
    return ", ".join(f"{name} {value}" for name, value in candidate.items()) or "the defaults"


if __name__ == "__main__":
    sys.exit(main())
