"""The settings that `python -m examples.vowels.choose` found best, on TRAIN alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SEEDS: Final = (0, 1, 2, 3, 4)
#: What the classifier is trained with, beside `carousel-export train`'s own defaults.
SETTINGS: Final[Mapping[str, str | int | float]] = {
    "cell": "gru",
    "hidden": 128,
    "label_smoothing": 0.1,
    "recurrent_dropout": 0.5,
}


def flags(settings: Mapping[str, str | int | float]) -> list[str]:
    """Return settings as options of the command line."""
    return [
        word
        for name, value in settings.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
