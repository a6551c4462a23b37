"""What the example can be asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from examples.anatomy.characters import Settings

_EXAMPLES = """\
examples:
  python -m examples.anatomy
  python -m examples.anatomy --text tinyshakespeare.txt --sentence 'Shall I compare thee'
"""

_OUT: Final = Path(__file__).parents[2] / ".demo" / "anatomy"


@dataclass(frozen=True)
class Options:
    """The command line's options; without a `sentence` the first held-out characters are read."""

    out: Path
    text: Path | None
    sentence: str | None
    settings: Settings


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; wrong usage and --help end the program."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.anatomy",
        description="Draw what is inside an LSTM, a GRU and a plain RNN, and what gates do.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=_OUT, help="folder for the pictures (default: .demo/anatomy)"
    )
    parser.add_argument(
        "--text", type=Path, help="train a character model on this text, and draw its gates"
    )
    parser.add_argument("--sentence", help="what it reads then (default: held-out characters)")
    parser.add_argument(
        "--updates",
        type=_positive,
        default=Settings.updates,
        help=f"how long to train (default: {Settings.updates})",
    )
    given = parser.parse_args(arguments)
    if given.sentence is not None and not (given.text and len(given.sentence) > 1):
        parser.error("--sentence needs --text, and two characters or more")
    return Options(
        out=given.out.resolve(),
        text=given.text.resolve() if given.text else None,
        sentence=given.sentence,
        settings=Settings(updates=given.updates),
    )


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is needed, not {text}")
    return value
