"""What the demo can be asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_EXAMPLES = """\
examples:
  python -m examples.co2.demo
  python -m examples.co2.demo --quick
  python -m examples.co2.demo --picture docs/images/demo.png --record docs/images/demo.svg
"""

_OUT = Path(__file__).parents[2] / ".demo"


@dataclass(frozen=True)
class Options:
    """The command line's options, and what follows from them."""

    out: Path
    picture: Path
    record: Path | None
    quick: bool

    @property
    def checkpoint(self) -> Path:
        """Where the trained network goes."""
        return self.out / "co2.pt"

    @property
    def models(self) -> Path:
        """The repository of models that is served."""
        return self.out / "models"

    @property
    def shorter(self) -> tuple[str, ...]:
        """What makes training shorter than it takes to be as good as it gets."""
        return ("--epochs", "25") if self.quick else ()

    @property
    def pause(self) -> float:
        """Seconds between two weeks of the stream: slow enough to watch."""
        return 0.0 if self.quick else 0.01


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; wrong usage and --help end the program."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.co2.demo",
        description="Train a forecaster of CO2, export it, serve it, and stream to it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=_OUT, help="folder for what is made (default: .demo)"
    )
    parser.add_argument("--picture", type=Path, help="the PNG (default: co2.png in that folder)")
    parser.add_argument("--record", type=Path, help="write what the terminal shows to this SVG too")
    parser.add_argument(
        "--quick", action="store_true", help="train for 25 epochs, and stream without pauses"
    )
    given = parser.parse_args(arguments)
    out = given.out.resolve()
    picture = given.picture.resolve() if given.picture else out / "co2.png"
    return Options(out=out, picture=picture, record=given.record, quick=given.quick)
