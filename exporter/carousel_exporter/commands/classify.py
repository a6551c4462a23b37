"""`train --task classify`: labelled sequences, and the class of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from carousel_exporter.accuracy import Accuracy, judge_answers
from carousel_exporter.checkpoint import CLASSIFY, Checkpoint, Fact
from carousel_exporter.commands.forecast import constant_lines, filled_lines
from carousel_exporter.commands.run import Verdict
from carousel_exporter.commands.tables import table
from carousel_exporter.data import Split
from carousel_exporter.labelling import LabelLesson, LabelTask, answer_sequences
from carousel_exporter.network import RecurrentNetwork
from carousel_exporter.plots import accuracy_figure
from carousel_exporter.source import sha256
from carousel_exporter.training import TrainingResult
from carousel_exporter.wording import counted


@dataclass(frozen=True)
class Labelling:
    """Sequences to label; `test_data` is None where the test part comes out of `data`."""

    data: Path
    test_data: Path | None
    task: LabelTask

    @property
    def lesson(self) -> LabelLesson:
        """The task as training sees it."""
        return LabelLesson(self.task)

    @cached_property
    def facts(self) -> Mapping[str, Fact]:
        """What the sequences are."""
        task = self.task
        facts: dict[str, Fact] = {"data": self.data.name, "data_sha256": sha256(self.data)}
        if self.test_data is not None:
            facts |= {"test_data": self.test_data.name, "test_data_sha256": sha256(self.test_data)}
        weights = zip(task.train.classes, task.weights, strict=True)
        return facts | {
            "sequences": len(task.train.values) + len(task.validation.values),
            "class_weights": ",".join(f"{name}={weight:.4g}" for name, weight in weights),
        }

    def introduction(self) -> list[str]:
        """Say how the sequences are split, and what was filled."""
        task = self.task
        train = task.train
        by = "step" if train.is_labelled_by_step else "sequence"
        parts = [len(part.values) for part in (train, task.validation, task.test)]
        files = " and ".join(str(p) for p in (self.data, self.test_data) if p is not None)
        lines = [
            f"{files}: {parts[0]} sequences for training, {parts[1]} for validation, {parts[2]} "
            f"for the test; {counted(len(train.columns), 'column')}, "
            f"{counted(len(train.classes), 'class')}, a label a {by}"
        ]
        values = np.concatenate(train.values)
        flat = np.ptp(values, axis=0) == 0
        constant = [name for name, is_flat in zip(train.columns, flat, strict=True) if is_flat]
        return lines + filled_lines(train.filled) + constant_lines(constant)

    def checkpoint(self, network: RecurrentNetwork, facts: dict[str, Fact]) -> Checkpoint:
        """Return what is kept of a network."""
        task = self.task
        train = len(task.train.values)
        validation = train + len(task.validation.values)
        return Checkpoint(
            network=network,
            features=task.train.columns,
            targets=task.train.classes,
            horizon=0,
            unit="",
            levels=task.levels,
            split=Split(train, validation, validation + len(task.test.values)),
            facts=facts,
            task=CLASSIFY,
        )

    def judge(self, network: RecurrentNetwork, result: TrainingResult) -> Verdict:
        """Count how often the network is right on the test part."""
        test, train = self.task.test, self.task.train
        found = judge_answers(answer_sequences(network, test), test, train)
        return Verdict(
            facts={
                "test_accuracy_last": round(found.last, 6),
                "test_accuracy_steps": round(found.steps, 6),
                "test_accuracy_majority": round(found.majority, 6),
            },
            table=_accuracy_table(network.architecture.kind.title, found, test.classes),
            figure=accuracy_figure(result.epochs, found.heard, found.over_heard),
        )


def _accuracy_table(own: str, found: Accuracy, classes: tuple[str, ...]) -> Table:
    title = f"Right answers, over {counted(int(found.counts.sum()), 'sequence')} held out"
    result = table(title, "of", "sequences", own, numbers=("sequences", own))
    total = f"{int(found.counts.sum())}"
    result.add_row("the last step", total, f"{found.last:.1%}")
    result.add_row("all steps", total, f"{found.steps:.1%}")
    result.add_row("always the commonest class", total, f"{found.majority:.1%}")
    for name, share, count in zip(classes, found.classes, found.counts, strict=True):
        if count:
            result.add_row(f"the last step of {escape(name)}", f"{int(count)}", f"{share:.1%}")
    return result
