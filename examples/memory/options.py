"""What the example can be asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from examples.memory.training import Settings

_EXAMPLES = """\
examples:
  python -m examples.memory --quick
  python -m examples.memory --csv docs/long-memory.csv --picture docs/images/long-memory.png
"""

_OUT = Path(__file__).parents[2] / ".demo" / "memory"
LAGS: Final = (5, 10, 20, 50, 100, 200, 500)
QUICK_LAGS: Final = (5, 20, 100, 200)


@dataclass(frozen=True)
class Options:
    """The command line's options; `lags` are in steps."""

    out: Path
    picture: Path
    csv: Path
    lags: tuple[int, ...]
    seeds: tuple[int, ...]
    settings: Settings

    @property
    def runs(self) -> Path:
        """Where finished trainings are kept."""
        return self.out / "runs"

    @property
    def tables(self) -> Path:
        """Where the tables of medians and ranges go, as Markdown."""
        return self.out / "long-memory.md"

    @property
    def models(self) -> Path:
        """The repository of models that is served."""
        return self.out / "models"


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; wrong usage and --help end the program."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.memory",
        description="Train RNN, GRU and LSTM to remember, serve them, and ask again by streaming.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="one seed, and the lags 5, 20, 100 and 200"
    )
    parser.add_argument(
        "--out", type=Path, default=_OUT, help="folder for what is made (default: .demo/memory)"
    )
    parser.add_argument("--picture", type=Path, help="the PNG (default: long-memory.png there)")
    parser.add_argument(
        "--csv", type=Path, help="every training, a line each (default: long-memory.csv there)"
    )
    parser.add_argument("--lags", type=_lag, nargs="+", help="lags in steps, 4 or more each")
    parser.add_argument("--seeds", type=_positive, help="how many seeds (default: 3)")
    parser.add_argument(
        "--updates",
        type=_positive,
        default=Settings.updates,
        help=f"a training's budget (default: {Settings.updates})",
    )
    given = parser.parse_args(arguments)
    out = given.out.resolve()
    return Options(
        out=out,
        picture=given.picture.resolve() if given.picture else out / "long-memory.png",
        csv=given.csv.resolve() if given.csv else out / "long-memory.csv",
        lags=tuple(sorted(set(given.lags or (QUICK_LAGS if given.quick else LAGS)))),
        seeds=tuple(range(given.seeds or (1 if given.quick else 3))),
        settings=Settings(updates=given.updates),
    )


def _lag(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 4:
        raise argparse.ArgumentTypeError(f"a lag of 4 or more steps is needed, not {text}")
    return value


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is needed, not {text}")
    return value
