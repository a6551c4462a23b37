"""What every example that trains a network can be asked for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

_DEMO = Path(__file__).parents[2] / ".demo"


@dataclass(frozen=True)
class Options:
    """Where files go, and whether to be quick rather than good."""

    out: Path
    picture: Path
    quick: bool

    @property
    def models(self) -> Path:
        """The repository of models that is served."""
        return self.out / "models"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.out / "server.log"


def make_parser(name: str, description: str, *, quick: str) -> argparse.ArgumentParser:
    """Return a parser of the options that are common; `quick` says what being quick leaves out."""
    parser = argparse.ArgumentParser(prog=f"python -m examples.{name}", description=description)
    parser.add_argument(
        "--out",
        type=Path,
        default=_DEMO / name,
        help=f"folder for what is made (default: .demo/{name})",
    )
    parser.add_argument(
        "--picture", type=Path, help=f"the PNG (default: {name}.png in that folder)"
    )
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def read_options(given: argparse.Namespace, name: str) -> Options:
    """Return the common options of what was given."""
    out = given.out.resolve()
    picture = given.picture.resolve() if given.picture else out / f"{name}.png"
    return Options(out=out, picture=picture, quick=given.quick)
