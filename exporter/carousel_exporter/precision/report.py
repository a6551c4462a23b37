"""What shrinking a model found: what changed, what it costs, what it saves; for people and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from carousel_exporter.verification import Report


class Precision(StrEnum):
    """What numbers are kept in."""

    FLOAT16 = "float16"
    INT8 = "int8"


class Scales(StrEnum):
    """Where the scales of integers come from; `FIXED` is faster, `BY_ROW` exacter for a small h."""

    NONE = ""
    FIXED = "fixed for h, which lies between -1 and 1"
    BY_ROW = "one a row and step: fixed ones are not exact enough"


@dataclass(frozen=True)
class Bound:
    """The largest error that is taken without being asked, as a share of the answers' spread."""

    value: float

    @classmethod
    def of(cls, precision: Precision) -> Bound:
        """Return the bound: what rounding of that kind stays well below in a sound network."""
        return cls({Precision.FLOAT16: 0.01, Precision.INT8: 0.05}[precision])


@dataclass(frozen=True)
class OutputError:
    """How far one output was off float32 over many steps with the state carried along.

    `rms` and `largest` are in the output's unit; `spread` is the standard deviation of the
    float32 answers, `share` rms / spread; `parts` are the shares in four quarters of the streams,
    in order, which shows whether errors grow.
    """

    output: str
    rms: float
    largest: float
    spread: float
    share: float
    parts: tuple[float, ...]

    @property
    def worst(self) -> float:
        """The share in the worst quarter."""
        return max(self.share, *self.parts)


@dataclass(frozen=True)
class Speed:
    """Median microseconds of a bare run on one thread, in float32 and in the new file."""

    rows: int
    steps: int
    float32: float
    new: float

    @property
    def gain(self) -> float:
        """How many times as fast the new file is."""
        return self.float32 / self.new


@dataclass(frozen=True)
class ShrinkReport:
    """The whole of it. Sizes in bytes; `state_bytes` are one session's; (before, after) each."""

    precision: Precision
    changed: tuple[str, ...]
    left: Mapping[str, str]
    file_bytes: tuple[int, int]
    state_bytes: tuple[int, int]
    errors: tuple[OutputError, ...]
    inputs: str
    bound: Bound
    scales: Scales
    speeds: tuple[Speed, ...]
    checks: Report
    batching: str

    @property
    def within_bound(self) -> bool:
        """Whether every output's error is small enough."""
        return all(error.worst <= self.bound.value for error in self.errors)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        found = asdict(self)
        found["checks"] = {c.name: {"passed": c.passed, **_worst(c)} for c in self.checks.checks}
        found["bound"] = self.bound.value
        found["within_bound"] = self.within_bound
        for speed, plain in zip(self.speeds, found["speeds"], strict=True):
            plain["gain"] = speed.gain
        return found


def _worst(check: Any) -> dict[str, float]:
    found = {"answers": check.outputs.value}
    return found | ({"states": check.states.value} if check.states else {})
