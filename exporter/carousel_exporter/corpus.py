"""Texts: reading one, the characters that a network knows, and where it is cut into parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from carousel_exporter.data import Split, split_by_time
from carousel_exporter.errors import DataError, SettingsError

Ids = NDArray[np.int64]

#: Stands for every character that the vocabulary hasn't: U+FFFD, as where a decoder gives up.
UNKNOWN: Final = "\N{REPLACEMENT CHARACTER}"
#: A character must stand this often in the training part to be known: those that stand once teach
#: nothing of themselves, and teach what an unknown character is like instead.
KNOWN_FROM: Final = 2


@dataclass(frozen=True)
class Corpus:
    """A text as places in a vocabulary, (N,), cut in the order of the text into three parts.

    `symbols` are the characters; the first is UNKNOWN.
    """

    symbols: tuple[str, ...]
    ids: Ids
    split: Split


def read_text(path: Path) -> str:
    """Read a text in UTF-8. Raises DataError where the file is none, or empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read().replace("\r\n", "\n")
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no text in UTF-8: its byte {error.start} can't be read."
        ) from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
    if not text.strip():
        raise DataError(f"{path} is empty: a text was expected.")
    return text


def make_corpus(text: str, *, validation: float = 0.1, test: float = 0.1) -> Corpus:
    """Cut a text into parts, and take the vocabulary from the training part alone.

    Raises SettingsError where a part would hold no character and the next, or no character of the
    training part stands there twice.
    """
    split = split_by_time(len(text), validation=validation, test=test, horizon=1, unit="character")
    counts = Counter(text[: split.train])
    known = sorted(c for c, n in counts.items() if n >= KNOWN_FROM and c != UNKNOWN)
    if not known:
        raise SettingsError(
            f"No character stands {KNOWN_FROM} times in the training part of {split.train}: give a "
            "longer text."
        )
    symbols = (UNKNOWN, *known)
    return Corpus(symbols, encode(text, symbols), split)


def encode(text: str, symbols: Sequence[str]) -> Ids:
    """Return the place of each character among the symbols, (N,); 0 for an unknown one."""
    places = {symbol: place for place, symbol in enumerate(symbols)}
    return np.fromiter((places.get(c, 0) for c in text), np.int64, len(text))


def decode(ids: Sequence[int] | Ids, symbols: Sequence[str]) -> str:
    """Return the text that some places stand for."""
    return "".join(symbols[place] for place in ids)
