"""Bounds on one engine's work."""

from __future__ import annotations

from dataclasses import dataclass, field

from carousel_server.engine import scheduler
from carousel_server.engine.checkpoints import SavePolicy
from carousel_server.engine.cost import RunCost
from carousel_server.engine.runner import Runner


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds on what waits and on what runs."""

    queue_rows: int = 65_536
    queue_bytes: int = 256 * 1024 * 1024
    max_chunk: int = 65_536  # steps
    max_steps_per_tick: int = 256
    max_rows_per_tick: int = 1_024
    tick_seconds: float = 4e-3  # longer chunks are cut so that a tick takes about so long
    half_parked: bool = False  # keep parked float32 states as float16
    saves: SavePolicy = field(default_factory=SavePolicy)

    def of_ticks(self, runner: Runner, cost: RunCost) -> scheduler.Limits:
        """Return how much one tick may hold, with a runner whose runs cost so much."""
        spec = runner.spec
        return scheduler.Limits(
            # The rows of a tick need slots at the same time.
            rows=min(self.max_rows_per_tick, runner.slots),
            seconds=self.tick_seconds,
            cost=cost,
            # Without a time axis a run is one step, and so is a piece.
            steps=self.max_steps_per_tick if spec.time_axis else 1,
            batch=spec.max_batch,
            ragged=spec.ragged,
        )
