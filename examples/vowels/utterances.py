"""The utterances, and how long a frame of them lasts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from carousel_exporter.sequences import Sequences, read_sequences

_FOLDER = Path(__file__).parent / "data"
TRAIN: Final = _FOLDER / "JapaneseVowels_TRAIN.ts"
TEST: Final = _FOLDER / "JapaneseVowels_TEST.ts"
#: Milliseconds from one frame to the next.
FRAME: Final = 6.4


def read_train() -> Sequences:
    """Return the utterances to learn from."""
    return read_sequences(TRAIN)


def read_test() -> Sequences:
    """Return the utterances that are held out."""
    return read_sequences(TEST, like=read_train())
