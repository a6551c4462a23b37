"""Learning to go on with a text: characters in, the probability of each next one out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from carousel_exporter.corpus import Corpus
from carousel_exporter.lesson import WARM_UP_WINDOWS, Window, begin, check_window, cut_streams
from carousel_exporter.network import Architecture, RecurrentNetwork
from carousel_exporter.ngrams import bits_a_character
from carousel_exporter.settings import TrainingSettings

#: The width of a character's embedding, at most.
EMBEDDING = 64
#: Steps of a held-out part that are answered in one go, so that memory stays small.
JUDGED_TOGETHER = 4096
#: Of how many characters the counting model sees the last four and gives the fifth.
ORDER = 5


@dataclass(frozen=True)
class TextScore:
    """Bits a character on the test part: the network's, and those of counting."""

    network: float
    counting: float
    characters: int


class TextLesson:
    """A text as training sees it; losses are cross-entropies in nats a character."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self._ids = torch.from_numpy(corpus.ids)  # (N,)

    def build(self, settings: TrainingSettings) -> RecurrentNetwork:
        """Return an untrained network with an embedding in front."""
        check_window(self.corpus.split.train - 1, settings)
        symbols = len(self.corpus.symbols)
        return begin(
            Architecture(
                features=min(EMBEDDING, symbols),
                hidden=settings.hidden,
                layers=settings.layers,
                outputs=symbols,
                vocabulary=symbols,
                log_probabilities=True,
            ),
            settings,
        )

    def passes(self, settings: TrainingSettings) -> Iterator[list[Window]]:
        """Yield the training part once, as streams side by side."""
        ids = self._ids[: self.corpus.split.train]
        yield cut_streams(ids[:-1], ids[1:], settings)

    def loss(self, answer: Tensor, window: Window, settings: TrainingSettings) -> Tensor:
        """Return the mean cross-entropy, smoothed."""
        return nn.functional.cross_entropy(
            answer.flatten(0, 1),
            window.target.flatten(),
            label_smoothing=settings.label_smoothing,
        )

    def validate(self, network: RecurrentNetwork, settings: TrainingSettings) -> float:
        """Return the loss on the validation part, in one session warmed up before it."""
        split = self.corpus.split
        return nats_a_character(
            network, self._ids, split.train, split.validation, WARM_UP_WINDOWS * settings.window
        )


@torch.inference_mode()
def nats_a_character(
    network: RecurrentNetwork, ids: Tensor, start: int, stop: int, warm_up: int
) -> float:
    """Return the mean -ln p of ids[start + 1 : stop], in one session begun `warm_up` before."""
    begun = max(0, start - warm_up)
    state, total = None, 0.0
    for first in range(begun, stop - 1, JUDGED_TOGETHER):
        last = min(first + JUDGED_TOGETHER, stop - 1)
        answer, state = network.normalised(ids[first:last, None], state)  # (T, 1, V)
        judged = slice(max(first, start) - first, None)
        target = ids[first + 1 : last + 1][judged]
        if len(target):
            loss = nn.functional.cross_entropy(answer[judged, 0], target, reduction="sum")
            total += loss.item()
    return total / (stop - 1 - start)


def score_text(network: RecurrentNetwork, corpus: Corpus, *, warm_up: int) -> TextScore:
    """Judge a network and a counting model of the training part on the test part.

    Both are judged on the same characters, and know those before them.
    """
    split, ids = corpus.split, corpus.ids
    start = split.validation
    nats = nats_a_character(network, torch.from_numpy(ids), start, split.test, warm_up)
    counting = bits_a_character(
        ids[: split.train],
        ids[start + 1 - (ORDER - 1) : split.test],
        vocabulary=len(corpus.symbols),
        order=ORDER,
    )
    return TextScore(nats / math.log(2), counting, split.test - start - 1)
