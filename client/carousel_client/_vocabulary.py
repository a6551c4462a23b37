"""From text to the numbers that a model takes, and back.

A vocabulary is the list of a model's symbols: characters, or longer strings. Text is read from the
left, and each time the longest symbol is taken that the rest begins with. It is taken as it is:
nothing is normalised, no line end changed, no case folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from carousel_client._errors import InvalidInput

#: The symbol that stands for every character which is not a symbol's, where a model has it:
#: Unicode's own REPLACEMENT CHARACTER.
UNKNOWN: Final = "\ufffd"

# The most of a text that a message repeats.
_SHOWN = 40


class Scan(NamedTuple):
    """What a text's beginning is made of: the symbols' numbers, and where each one ends.

    `stuck` says whether an unknown character comes next.
    """

    ids: list[int]
    ends: list[int]
    stuck: bool

    @property
    def end(self) -> int:
        """Return where the last symbol ends."""
        return self.ends[-1] if self.ends else 0


class Vocabulary:
    """A model's symbols: number v stands for `symbols[v]`. They are distinct, and none is empty."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols: Final = tuple(symbols)
        self._ids = {symbol: number for number, symbol in enumerate(self.symbols)}
        self._longest = max(map(len, self.symbols), default=0)
        #: The number of the symbol that stands for unknown characters, or None.
        self.unknown: Final = self._ids.get(UNKNOWN)
        self._lengths: dict[str, list[int]] = {}  # of the symbols that begin so, longest first
        for symbol in filter(None, self.symbols):
            self._lengths.setdefault(symbol[0], []).append(len(symbol))
        for first, lengths in self._lengths.items():
            self._lengths[first] = sorted(set(lengths), reverse=True)
        #: What symbols of several characters begin with, themselves left out.
        self._prefixes = {s[:size] for s in self.symbols for size in range(1, len(s))}

    def __len__(self) -> int:
        return len(self.symbols)

    def number(self, symbol: str) -> int | None:
        """Return a symbol's number; None where there is no such symbol."""
        return self._ids.get(symbol)

    def encode(self, text: str) -> list[int]:
        """Return the numbers of a text's symbols.

        Raises InvalidInput for a character that no symbol begins with here, unless a symbol stands
        for unknown ones.
        """
        found = self.scan(text)
        if found.stuck:
            raise InvalidInput(f"{name(text[found.end])} at position {found.end} {self.lacks}")
        return found.ids

    def scan(self, text: str, *, more: bool = False) -> Scan:
        """Read a text as far as it is made of symbols.

        That is to its end, or to a character that isn't known and can't stand for an unknown one.
        With `more` to follow it may end before: where what comes next decides on the symbol.
        """
        ids: list[int] = []
        ends: list[int] = []
        at, size = 0, len(text)
        while at < size:
            if more and size - at < self._longest and text[at:] in self._prefixes:
                break
            number, length = self._longest_at(text, at)
            if number is None:
                return Scan(ids, ends, stuck=True)
            at += length
            ids.append(number)
            ends.append(at)
        return Scan(ids, ends, stuck=False)

    def decode(self, ids: Any) -> str:
        """Return the text of these numbers, of any shape. Raises InvalidInput."""
        array = np.asarray(ids)
        if array.size == 0:
            return ""
        if array.dtype.kind not in "iu":
            raise InvalidInput(f"symbols are numbered with integers, but got {array.dtype.name}")
        wrong = array[(array < 0) | (array >= len(self))]
        if wrong.size:
            raise InvalidInput(
                f"symbols are numbered from 0 to {len(self) - 1}, but got {wrong.flat[0]}"
            )
        return "".join([self.symbols[number] for number in array.ravel().tolist()])

    @property
    def lacks(self) -> str:
        """Return how a sentence about an unknown character ends."""
        brief = "".join(symbol for symbol in self.symbols if len(symbol) == 1)
        shown = brief if len(brief) <= _SHOWN else f"{brief[:_SHOWN]}…"
        return f"is not in the model's vocabulary of {len(self)} symbols ({shown!r})"

    def _longest_at(self, text: str, at: int) -> tuple[int | None, int]:
        for length in self._lengths.get(text[at], ()):
            number = self._ids.get(text[at : at + length])
            if number is not None:
                return number, length
        return self.unknown, 1


def name(character: str) -> str:
    """Return a character with its code point, as a message names it: 'é' (U+00E9)."""
    return f"{character!r} (U+{ord(character):04X})"
