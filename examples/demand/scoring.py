"""How good forecasts are, beside a seasonal naive one, and how soon a new session is as good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel_exporter.baselines import seasonal_naive
from examples.demand.calendar import DAY, WEEK
from examples.demand.streaming import Track


@dataclass(frozen=True)
class Scores:
    """Mean absolute errors in MW.

    `old` is that of the session which had been open from the beginning, and `naive` that of the
    value a week before, over the `half_hours` held out that have a truth a day later. `new` (A,)
    are those of the sessions that were opened later, so many half hours after each was opened, and
    `beside` (A,) those of the old session at the same half hours.
    """

    old: float
    naive: float
    half_hours: int
    new: NDArray[np.float64]
    beside: NDArray[np.float64]


def judge(tracks: list[Track], demand: NDArray[Any], *, first: int, ages: int) -> Scores:
    """Compare forecasts with the demand (N,) of the whole series; the first track is the old."""
    truth = demand[DAY:]  # of the forecast that was made at each step
    old, *others = tracks
    old_errors = np.abs(old.since(0)[: len(truth)] - truth)  # (N - DAY,)
    naive = seasonal_naive(demand[:, None], DAY, WEEK)[:, 0]
    new, beside = [], []
    for track in others:
        steps = slice(track.start, track.start + ages)
        new.append(np.abs(track.answers[:ages] - truth[steps]))
        beside.append(old_errors[steps])
    return Scores(
        old=float(old_errors[first:].mean()),
        naive=float(np.abs(naive - truth)[first:].mean()),
        half_hours=len(truth) - first,
        new=np.mean(new, axis=0),
        beside=np.mean(beside, axis=0),
    )
