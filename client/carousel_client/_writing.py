"""How a language model's answers become text, without sessions: by lot, or by beam search.

A language model answers each symbol with the probabilities of the next. Here they are arrays; the
sessions are the business of `text.py` and `_aio_text.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from carousel_client import _texts
from carousel_client._classes import Chance, Classes, Floats, draw
from carousel_client._columns import Array, Ints
from carousel_client._errors import InvalidInput
from carousel_client._kinds import check_number, check_text, check_whole
from carousel_client._models import ModelInfo, TensorInfo

# A long prompt is sent in chunks, for only the last answer is of interest.
_CHUNK = 1024


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A text that beam search found, and the natural logarithm of its probability."""

    text: str
    log_probability: float


class Language:
    """What a model that takes text and answers with probabilities of its symbols can say.

    Raises InvalidInput for any other model.
    """

    def __init__(self, model: ModelInfo) -> None:
        self._input, self._vocabulary = _texts.vocabulary(model)
        self._model = model
        self._output = self._of_symbols()
        numbers = [self._vocabulary.number(symbol) for symbol in self._output.columns]
        self._numbers = np.array(numbers, np.int64)  # (C,): the symbol that each class is
        #: The classes that stand for unknown characters: nothing that can be written.
        self._unsayable = self._numbers == self._vocabulary.unknown

    def prompt(self, text: str) -> Iterator[Array]:
        """Yield a prompt as the model takes it, in chunks (T,). Raises InvalidInput."""
        check_text(text, "the prompt")
        if not text:
            raise InvalidInput("the prompt is empty: the model says what follows on a text")
        ids = _texts.encode(self._model, text)
        return (ids[begin : begin + _CHUNK] for begin in range(0, len(ids), _CHUNK))

    def logs(self, answer: Any) -> Floats:
        """Return the log-probability of each symbol after the last step: (V,), -inf for never.

        `answer` is the model's to one step, `[C]`, or to several, `[T, C]`.
        """
        array = answer[self._output.name] if isinstance(answer, Mapping) else answer
        last = array.reshape(-1, array.shape[-1])[-1]
        logs = Classes(last, self._output.columns, self._output.content).log_probabilities
        found = np.full(len(self._vocabulary), -np.inf)
        found[self._numbers] = np.where(self._unsayable, -np.inf, logs)
        return found

    def step(self, number: int) -> Array:
        """Return one symbol as the model takes it, a scalar array."""
        return np.array(number, self._input.dtype)

    def text(self, numbers: Sequence[int] | Ints) -> str:
        """Return the text of symbols, by their numbers."""
        return self._vocabulary.decode(numbers)

    def _of_symbols(self) -> TensorInfo:
        symbols = set(self._vocabulary.symbols)
        for spec in self._model.outputs:
            if spec.content and len(spec.shape) == 1 and symbols.issuperset(spec.columns):
                return spec
        raise InvalidInput(
            f"model {self._model.name!r} is no language model: no output has probabilities of its "
            "symbols"
        )


class Writer:
    """Draws one symbol after the other. Raises InvalidInput."""

    def __init__(self, model: ModelInfo, length: int, temperature: float, rng: Chance) -> None:
        check_whole(length, "length", least=1)
        check_number(temperature, "temperature")
        self.language = Language(model)
        self._temperature = temperature
        self._rng = np.random.default_rng(rng)

    def next(self, answer: Any) -> int:
        """Return the number of the symbol that follows, by lot."""
        logs = self.language.logs(answer)
        return int(draw(logs, self._rng, temperature=self._temperature))


class Heirs(NamedTuple):
    """Who goes on with what the hypotheses before stand for.

    `parents[i]` is whose continuation hypothesis i is, `symbols[i]` what it adds; `first[i]` says
    whether no hypothesis before it has the same parent. `childless` are those that none goes on.
    """

    parents: list[int]
    symbols: list[int]
    first: list[bool]
    childless: list[int]


class Search:
    """Beam search: of all continuations by one symbol the most probable few are kept.

    Raises InvalidInput.
    """

    def __init__(self, model: ModelInfo, length: int, beams: int) -> None:
        check_whole(length, "length", least=1)
        check_whole(beams, "beams", least=1)
        self.language = Language(model)
        self._beams = beams
        self._scores: Floats = np.zeros(1)  # (K,)
        self._texts: Ints = np.zeros((1, 0), np.int64)  # (K, t)

    def extend(self, answers: Sequence[Any]) -> Heirs:
        """Take in the answers to the hypotheses kept, in order, and keep the best of the next."""
        logs = np.stack([self.language.logs(answer) for answer in answers])  # (K, V)
        parents, symbols, self._scores = best(self._scores, logs, self._beams)
        if not len(parents):
            raise InvalidInput("the model gives every symbol the probability 0: nothing follows")
        before = len(self._texts)
        self._texts = np.concatenate([self._texts[parents], symbols[:, np.newaxis]], axis=1)
        firsts = set(np.unique(parents, return_index=True)[1].tolist())
        return Heirs(
            parents=parents.tolist(),
            symbols=symbols.tolist(),
            first=[place in firsts for place in range(len(parents))],
            childless=sorted(set(range(before)) - set(parents.tolist())),
        )

    def hypotheses(self) -> list[Hypothesis]:
        """Return what was found, the most probable first."""
        return [
            Hypothesis(text=self.language.text(numbers), log_probability=float(score))
            for numbers, score in zip(self._texts, self._scores, strict=True)
        ]


def best(scores: Floats, logs: Floats, beams: int) -> tuple[Ints, Ints, Floats]:
    """Return the most probable continuations, best first: whose, by what symbol, their scores.

    (K,), (K, V) -> (M,), (M,), (M,) with M at most `beams`; those that can't be are left out.
    """
    total = (scores[:, np.newaxis] + logs).ravel()
    order = np.argsort(-total, kind="stable")[:beams]
    order = order[total[order] > -np.inf]
    parents, symbols = np.divmod(order, logs.shape[1])
    return parents, symbols, total[order]
