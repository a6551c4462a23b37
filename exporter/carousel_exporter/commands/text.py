"""`train --task text`: a text, and each next character of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from carousel_exporter.checkpoint import TEXT, Checkpoint, Fact
from carousel_exporter.commands.run import Verdict
from carousel_exporter.commands.tables import table
from carousel_exporter.corpus import Corpus
from carousel_exporter.data import Statistics
from carousel_exporter.language import ORDER, TextLesson, score_text
from carousel_exporter.lesson import WARM_UP_WINDOWS
from carousel_exporter.network import RecurrentNetwork
from carousel_exporter.plots import text_figure
from carousel_exporter.source import sha256
from carousel_exporter.training import TrainingResult
from carousel_exporter.wording import counted

#: What counting is called beside the network.
COUNTING = f"{ORDER}-gram"


@dataclass(frozen=True)
class Writing:
    """A text to go on with; `window` is in characters."""

    data: Path
    corpus: Corpus
    window: int

    @property
    def lesson(self) -> TextLesson:
        """The task as training sees it."""
        return TextLesson(self.corpus)

    @cached_property
    def facts(self) -> Mapping[str, Fact]:
        """What the text is."""
        return {
            "data": self.data.name,
            "data_sha256": sha256(self.data),
            "characters": len(self.corpus.ids),
            "symbols": len(self.corpus.symbols),
        }

    def introduction(self) -> list[str]:
        """Say how the text is split, and how much of it is not in the vocabulary."""
        ids, split = self.corpus.ids, self.corpus.split
        parts = (split.train, split.validation - split.train, split.test - split.validation)
        unknown = int((ids == 0).sum())
        lines = [
            f"{self.data}: {parts[0]} characters for training, {parts[1]} for validation, "
            f"{parts[2]} for the test; {counted(len(self.corpus.symbols), 'symbol')}"
        ]
        if unknown:
            lines.append(
                f"{counted(unknown, 'character')} of the text, too rare to learn, "
                f"{'stands' if unknown == 1 else 'stand'} as the unknown one"
            )
        return lines

    def checkpoint(self, network: RecurrentNetwork, facts: dict[str, Fact]) -> Checkpoint:
        """Return what is kept of a network."""
        return Checkpoint(
            network=network,
            features=(),
            targets=self.corpus.symbols,
            horizon=1,
            unit="",
            levels=Statistics(np.zeros(0), np.ones(0)),
            split=self.corpus.split,
            facts=facts,
            task=TEXT,
            symbols=self.corpus.symbols,
        )

    def judge(self, network: RecurrentNetwork, result: TrainingResult) -> Verdict:
        """Measure bits a character on the test part, beside counting's."""
        found = score_text(network, self.corpus, warm_up=WARM_UP_WINDOWS * self.window)
        own = network.architecture.kind.title
        title = f"Bits a character, over {counted(found.characters, 'character')} held out"
        than = f"{own}'s are"
        rows = table(title, "model", "bits", than, numbers=("bits", than))
        rows.add_row(own, f"{found.network:.3f}", "")
        # A text that holds no surprise for counting has nothing to compare with.
        gain = found.network / found.counting - 1 if found.counting else 0.0
        beside = f"{abs(gain):.0%} {'fewer' if gain < 0 else 'more'}" if gain else ""
        rows.add_row(COUNTING, f"{found.counting:.3f}", beside)
        return Verdict(
            facts={
                "test_bits_a_character": round(found.network, 6),
                "test_bits_a_character_counting": round(found.counting, 6),
            },
            table=rows,
            figure=text_figure(
                result.epochs,
                {f"{COUNTING}, test part": found.counting, f"{own}, test part": found.network},
                unit="bits a character",
                scale=1 / math.log(2),
            ),
        )
