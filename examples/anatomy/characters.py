"""A small character model: it reads a text and says, at every character, what comes next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from carousel_exporter.initialisation import initialise
from carousel_exporter.network import Architecture, RecurrentNetwork, State
from examples.common.errors import DemoError

#: The share of the text, at its end, that training never sees.
HELD_OUT: Final = 0.05
_SHORTEST: Final = 10_000


@dataclass(frozen=True)
class Text:
    """A text as numbers: places in an alphabet, (N,), and the alphabet."""

    ids: Tensor
    alphabet: str

    @property
    def training(self) -> Tensor:
        """The part that is learnt from."""
        return self.ids[: -self._held_out]

    @property
    def held_out(self) -> Tensor:
        """The part that is judged on."""
        return self.ids[-self._held_out :]

    def decode(self, ids: Tensor) -> str:
        """Return the characters of ids, (T,)."""
        return "".join(self.alphabet[place] for place in ids.tolist())

    @property
    def _held_out(self) -> int:
        return int(len(self.ids) * HELD_OUT)

    def encode(self, sentence: str) -> Tensor:
        """Return a sentence's ids, (T,). Raises DemoError where it has a character of its own."""
        strangers = sorted(set(sentence) - set(self.alphabet))
        if strangers:
            raise DemoError(
                f"The sentence has the character {strangers[0]!r}, which the text has not: choose "
                "one of the text's characters alone."
            )
        return torch.tensor([self.alphabet.index(character) for character in sentence])


@dataclass(frozen=True)
class Settings:
    """How to train: units, numbers of an embedding, streams, steps a window, updates, step size."""

    hidden: int = 128
    embedding: int = 32
    batch: int = 32
    window: int = 64
    updates: int = 3000
    rate: float = 2e-3


def read_text(path: Path) -> Text:
    """Read a text. Raises DemoError where there is none, or too little of it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DemoError(f"There is no file {path}.") from None
    except UnicodeDecodeError:
        raise DemoError(f"{path} is no text in UTF-8.") from None
    if len(text) < _SHORTEST:
        raise DemoError(
            f"{path} has {len(text):,} characters, and a model needs {_SHORTEST:,} or more."
        )
    alphabet = "".join(sorted(set(text)))
    places = {character: place for place, character in enumerate(alphabet)}
    return Text(torch.tensor([places[character] for character in text]), alphabet)


def train(text: Text, settings: Settings, *, seed: int = 0) -> Iterator[RecurrentNetwork]:
    """Train a character LSTM, and yield it, the same one, after each update.

    Truncated back-propagation: streams of the text side by side, their state carried from window
    to window. The step size falls to 0 along a cosine.
    """
    network = _build(text, settings, seed)
    optimiser = torch.optim.Adam(network.parameters(), settings.rate)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.updates)
    length = len(text.training) // settings.batch
    streams = text.training[: length * settings.batch].view(settings.batch, length).T  # (T, B)
    state: State | None = None
    start = 0
    for _ in range(settings.updates):
        if start + settings.window + 1 > length:
            start, state = 0, None
        loss, new = _loss(network, streams[start : start + settings.window + 1], state)
        state = {name: value.detach() for name, value in new.items()}
        start += settings.window
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        slower.step()
        yield network


@torch.inference_mode()
def bits_a_character(network: RecurrentNetwork, ids: Tensor) -> float:
    """Return the mean cost of the next character, in bits, over a text (N,) read as one session."""
    loss, _ = _loss(network, ids[:, None], None)
    return float(loss) / math.log(2)


def commonest_bits(text: Text) -> float:
    """Return the cost in bits of who knows how common each character is, and nothing else."""
    size = len(text.alphabet)
    counts = np.bincount(text.training.numpy(), minlength=size) + 1.0
    return float(-np.log2(counts / counts.sum())[text.held_out.numpy()].mean())


def _build(text: Text, settings: Settings, seed: int) -> RecurrentNetwork:
    size = len(text.alphabet)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RecurrentNetwork(
            Architecture(settings.embedding, settings.hidden, 1, outputs=size, vocabulary=size)
        )
        initialise(network)
    return network


def _loss(network: RecurrentNetwork, ids: Tensor, state: State | None) -> tuple[Tensor, State]:
    """Return the cross-entropy in nats of each id (T + 1, B) but the first, and the state."""
    logits, state = network(ids[:-1], state)  # (T, B, V)
    return functional.cross_entropy(logits.flatten(0, 1), ids[1:].flatten()), state
