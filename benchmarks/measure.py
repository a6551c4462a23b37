"""What a workload measures, against which ceiling, and how runs are put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np

from benchmarks.processes import Running


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured: two servers, channels to them, the model's file."""

    server: Running
    carousel: grpc.aio.Channel
    echo: grpc.aio.Channel
    model: Path
    quick: bool
    notes: dict[str, float] = field(default_factory=dict)  # from a workload's run to its next

    def count(self, full: int) -> int:
        """Return how many messages to send: fewer when it has to be quick."""
        return max(full // 5, 1) if self.quick else full


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what was measured, and what the ceiling gave beside it."""

    ours: float
    ceiling: float
    more: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Ours over the ceiling."""
        return self.ours / self.ceiling


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table."""

    name: str
    what: str
    unit: str
    ceiling: str
    target: float
    run: Callable[[Bench], Awaitable[Run]]
    lower_is_better: bool = False

    def met(self, ratio: float) -> bool:
        """Return whether the target is reached."""
        return ratio <= self.target if self.lower_is_better else ratio >= self.target


@dataclass(frozen=True, slots=True)
class Outcome:
    """A workload's runs."""

    workload: Workload
    runs: Sequence[Run]

    @property
    def ratio(self) -> float:
        """The median of the runs' ratios: each run's ceiling was measured beside it."""
        return float(np.median([run.ratio for run in self.runs]))

    @property
    def ours(self) -> float:
        """The median of what was measured."""
        return float(np.median([run.ours for run in self.runs]))

    @property
    def ceiling(self) -> float:
        """The median of the ceilings."""
        return float(np.median([run.ceiling for run in self.runs]))

    @property
    def more(self) -> dict[str, float]:
        """The medians of whatever else was measured."""
        return {
            name: float(np.median([run.more[name] for run in self.runs]))
            for name in self.runs[0].more
        }
