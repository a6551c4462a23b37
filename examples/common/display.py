"""How an example looks on a terminal, or in a file that its output goes to."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

#: Characters left of everything but headings.
INDENT = 2
_FRAMES_A_SECOND = 12


class Picture(Protocol):
    """Something that can be drawn again and again."""

    def __call__(self, *, width: int) -> RenderableType:
        """Draw it as it is now, so many characters wide at the most."""


class Display:
    """Headings, sentences and whatever else there is to show, on one console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._step = 0

    @property
    def width(self) -> int:
        """Characters that are left beside the indentation."""
        return self.console.width - INDENT

    def title(self, title: str, told: str) -> None:
        """Say what this is."""
        self.console.print(Text(title, style="bold"))
        self.console.print(Text(told))

    def step(self, title: str, told: str) -> None:
        """Begin a numbered step of an example with a sentence, whose first word is the title."""
        self._step += 1
        line = Table.grid(padding=(0, 1))
        line.add_row(
            Text(f"{self._step}", "bold magenta"), Text.assemble((title, "bold"), f" {told}")
        )
        self.console.print()
        self.console.print(line)

    def say(self, told: str, *, style: str = "") -> None:
        """Print a sentence or two, folded to the width."""
        self.show(Text(told, style=style))

    def show(self, what: RenderableType) -> None:
        """Print anything, indented."""
        self.console.print(_indented(what))

    def command(self, *words: str, after: str = "") -> None:
        """Print a command line that can be pasted: folded where a shell takes it, not filled up."""
        lines = fold_command(words, self.width)
        lines[-1] += f" {after}" if after else ""
        for line in lines:
            self.console.print(Text(" " * INDENT + line, style="cyan"), soft_wrap=True)

    @contextmanager
    def live(self, picture: Picture) -> Iterator[None]:
        """Redraw a picture for as long as the block runs, on terminals that can."""
        screen = Console()  # of its own, so that frames are never part of a recording
        if not screen.is_interactive:
            yield
            return
        with Live(
            console=screen,
            get_renderable=lambda: _indented(picture(width=self.width)),
            refresh_per_second=_FRAMES_A_SECOND,
            transient=True,
        ):
            yield


def _indented(what: RenderableType) -> Padding:
    return Padding(what, (0, 0, 0, INDENT), expand=False)


def fold_command(words: Sequence[str], width: int) -> list[str]:
    """Quote and fold a command line at `width`; an option stays beside its value."""
    units: list[str] = []
    for word in words:
        if units and units[-1].startswith("--") and " " not in units[-1]:
            units[-1] += f" {shlex.quote(word)}"
        else:
            units.append(shlex.quote(word))
    lines = units[:1]
    for unit in units[1:]:
        if len(lines[-1]) + len(unit) + 3 > width:
            lines[-1] += " \\"
            lines.append(f"  {unit}")
        else:
            lines[-1] += f" {unit}"
    return lines
