"""What runs cost on this device, measured at the start, and which way is taken for it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Times and batches at which fused runs are measured; what is between them is interpolated.
FUSED_STEPS = (2, 8, 32)
FUSED_ROWS = (1, 16, 128, 1024)

_WARM_UP = 2
_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Tuning:
    """Seconds of runs.

    `steps` has, for each way of making a step, those of each bucket; `fused` those of whole pieces
    by (steps, rows), on a grid.
    """

    steps: Mapping[str, Mapping[int, float]]
    fused: Mapping[tuple[int, int], float]

    def best(self, size: int) -> str:
        """Return the way that is fastest for a bucket."""
        return min(self.steps, key=lambda way: self.steps[way][size])

    def costs(self) -> dict[int, float]:
        """Return what a run of each bucket costs, made the best way."""
        sizes = next(iter(self.steps.values()))
        return {size: self.steps[self.best(size)][size] for size in sizes}

    def fused_seconds(self, steps: int, rows: int) -> float:
        """Return what one run of whole pieces costs; infinite where none was measured.

        Between the grid's points, and beyond them, costs are lines in both directions.
        """
        if not self.fused:
            return float("inf")
        times = sorted({t for t, _ in self.fused})
        batches = sorted({b for _, b in self.fused})
        at_rows = [_line(rows, batches, [self.fused[t, b] for b in batches]) for t in times]
        return _line(steps, times, at_rows)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "steps": {
                way: {str(s): v for s, v in sizes.items()} for way, sizes in self.steps.items()
            },
            "fused": [[steps, rows, seconds] for (steps, rows), seconds in self.fused.items()],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tuning:
        """Return what was written; whatever is wrong with it raises one of `MALFORMED`."""
        return cls(
            {
                way: {int(size): float(seconds) for size, seconds in sizes.items()}
                for way, sizes in value["steps"].items()
            },
            {(int(t), int(b)): float(seconds) for t, b, seconds in value["fused"]},
        )


#: What reading a tuning raises that is none.
MALFORMED = (KeyError, TypeError, ValueError, AttributeError)


def grid(values: Sequence[int], most: int) -> tuple[int, ...]:
    """Return those of the values that are not beyond `most`, and at least one."""
    return tuple(value for value in values if value <= most) or (most,)


def median_seconds(run: Callable[[], object]) -> float:
    """Return the median time of a few runs, after others that warmed up."""
    times = []
    for number in range(_WARM_UP + _REPEATS):
        began = time.perf_counter()
        run()
        if number >= _WARM_UP:
            times.append(time.perf_counter() - began)
    return float(np.median(times))


class TuningCache:
    """A folder of measurements, a file for each model, device and version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, facts: Iterable[str]) -> Path:
        """Return the file for what the measurements depend on."""
        key = hashlib.sha256("\n".join(facts).encode()).hexdigest()
        return self._folder / f"{key[:32]}.json"

    def load(self, facts: Iterable[str]) -> Tuning | None:
        """Return what was measured before; None: nothing, or nothing that can be read."""
        try:
            return Tuning.from_json(json.loads(self.path(facts).read_text()))
        except (OSError, *MALFORMED):
            return None

    def save(self, facts: Iterable[str], tuning: Tuning) -> bool:
        """Keep measurements; return whether that was possible."""
        path = self.path(facts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Another server may do the same at this moment: a file is there whole, or not at all.
            partial = path.with_suffix(f".{time.monotonic_ns()}")
            partial.write_text(json.dumps(tuning.to_json(), indent=1) + "\n")
            partial.replace(path)
        except OSError:
            return False
        return True


def _line(at: int, places: Sequence[int], values: Sequence[float]) -> float:
    """Return the value at a place, on the line through the two points around or nearest to it."""
    if len(places) == 1:
        return values[0] * at / places[0]
    high = min(max(int(np.searchsorted(places, at)), 1), len(places) - 1)
    x, y = places[high - 1 : high + 1], values[high - 1 : high + 1]
    return max(y[0] + (y[1] - y[0]) * (at - x[0]) / (x[1] - x[0]), 0.0)
