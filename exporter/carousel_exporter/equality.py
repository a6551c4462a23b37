"""What is called equal: the largest difference between two runs, and how large it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from carousel_exporter import rounding
from carousel_exporter.driving import Session
from carousel_exporter.errors import ModelFileError
from carousel_exporter.rounding import Floors, Noise

#: The largest difference allowed, relative to max(1, |reference|), by the width of a float; other
#: types must be equal. Single precision: what Carousel calls equal. The others: as many units in
#: the last place, give or take.
TOLERANCE: Final = {2: 1e-2, 4: 1e-5, 8: 1e-13}


@dataclass(frozen=True)
class Difference:
    """The largest difference found over some tensors: `value` against what `tolerance` allows.

    `value` is relative to max(1, |reference|), infinite where a number is not finite.
    """

    tensor: str
    value: float
    tolerance: float

    @property
    def excess(self) -> float:
        """How many times as large as allowed the difference is; above 1 it is too large."""
        if self.value == 0:
            return 0.0
        return self.value / self.tolerance if self.tolerance else float("inf")


@dataclass(frozen=True)
class Check:
    """One way of running the sessions, and how far answers and states (if compared) were off."""

    name: str
    outputs: Difference
    states: Difference | None

    @property
    def passed(self) -> bool:
        """Whether every difference is small enough."""
        return all(d.excess <= 1 for d in (self.outputs, self.states) if d is not None)


def compare(
    name: str,
    reference: Sequence[Session],
    found: Sequence[Session],
    floors: Floors,
    noise: Noise | None = None,
) -> Check:
    """Compare sessions: all answers, and the states after the last step.

    `noise` is how far rounding alone takes them, and allows for more.
    """
    grown = (noise.answers, noise.states) if noise else ({}, {})
    worst: list[Difference | None] = [None, None]
    for expected, actual in zip(reference, found, strict=True):
        for kind in (0, 1):
            for tensor, value in actual[kind].items():
                floor, more = floors.get(tensor, 1.0), grown[kind].get(tensor, 0.0)
                new = difference(tensor, expected[kind][tensor], value, floor, more)
                old = worst[kind]
                if old is None or new.excess > old.excess:
                    worst[kind] = new
    outputs, states = worst
    assert outputs is not None  # a manifest without outputs is refused before
    return Check(name, outputs, states)


def difference(
    tensor: str,
    reference: np.ndarray,
    value: np.ndarray,
    floor: np.ndarray | float,
    noise: np.ndarray | float = 0.0,
) -> Difference:
    """Return the largest difference between two arrays, relative to max(floor, |reference|).

    `floor` is 1, or the scale that the file notes for the tensor where that is larger: rounding
    errors of an answer in thousands are no smaller where it happens to cross 0. Where rounding
    alone grows to `noise`, for all or by step (T,), more is allowed, and the difference that counts
    is the one that lies highest above what is allowed for it.
    """
    is_float = reference.dtype.kind == "f"
    tolerance = TOLERANCE[reference.dtype.itemsize] if is_float else 0.0
    if reference.shape != value.shape:
        raise ModelFileError(
            f"{tensor!r} has the shape {list(reference.shape)} in one way of running and "
            f"{list(value.shape)} in another."
        )
    a, b = reference.astype(np.float64), value.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Difference(tensor, float("inf"), tolerance)
    relative = np.abs(a - b) / np.maximum(floor, np.abs(a))
    if not (is_float and relative.size):
        return Difference(tensor, float(relative.max(initial=0.0)), tolerance)
    allowed = rounding.allowed(tolerance, noise)  # () or (T,)
    allowed = allowed.reshape(allowed.shape + (1,) * (a.ndim - allowed.ndim))
    allowed = np.broadcast_to(allowed, a.shape)
    worst = np.unravel_index(np.argmax(relative / allowed), a.shape)
    return Difference(tensor, float(relative[worst]), float(allowed[worst]))
