"""Running `carousel-export` as a user would: the command is shown, then run, then its output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rich.text import Text

from examples.common.display import Display
from examples.common.errors import DemoError


def run_export(display: Display, *arguments: str | Path, last_line_only: bool = False) -> None:
    """Show and run one command of `carousel-export`, then show what it printed.

    Its progress bar and errors go straight to the terminal. Raises DemoError where it fails.
    """
    paths_and_words = (program_path("carousel-export"), *arguments)
    words = [shown(word) if isinstance(word, Path) else word for word in paths_and_words]
    display.command(*words)
    done = subprocess.run(  # noqa: S603 - our own program, no shell
        words,
        stdout=subprocess.PIPE,
        # A progress bar needs a terminal; elsewhere it would leave its last frame in the output.
        stderr=None if sys.stderr.isatty() else subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": str(display.width)},
    )
    if done.returncode:
        raise DemoError(
            f"carousel-export {arguments[0]} ended with status {done.returncode}"
            f"{': ' + done.stderr.strip() if done.stderr else '; its error is above.'}"
        )
    lines = [line.rstrip() for line in done.stdout.strip().splitlines()]
    display.show(Text("\n".join(lines[-1:] if last_line_only else lines)))


def program_path(name: str) -> Path:
    """Return where a program of this environment lies: beside its Python."""
    return Path(sys.executable).with_name(name)


def shown(path: Path) -> str:
    """Return a path as a user would type it: relative to the working directory, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
