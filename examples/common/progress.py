"""A bar for work that takes seconds, on terminals that can show one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def counted(items: Iterable[Item], *, total: int, told: str) -> Iterator[Item]:
    """Yield items, and show how many of `total` are done."""
    console = Console(stderr=True)
    hidden = not console.is_interactive  # in a file a bar would leave its last frame
    yield from track(
        items,
        description=f"  {told}",
        total=total,
        console=console,
        transient=True,
        disable=hidden,
    )
