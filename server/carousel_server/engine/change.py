"""A change of versions under live sessions: one runner takes over from another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from carousel_server.engine.cost import RunCost
from carousel_server.engine.runner import Runner
from carousel_server.errors import CarouselError


@dataclass(frozen=True, slots=True)
class Change:
    """A runner of the same inputs, outputs and states, on its way to take the place of another.

    What was queued before it ends with the old runner, what came after it begins with the new one.
    """

    runner: Runner
    cost: RunCost
    reply: Callable[[int | CarouselError], None]  # takes the number of sessions, or the error
