"""Whether streamed answers equal PyTorch's, and whether they beat forecasts that cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carousel_exporter.baselines import Score, persistence, score, seasonal_naive
from carousel_exporter.equality import TOLERANCE
from examples.co2.sessions import Plan

#: What Carousel calls equal in single precision (4 bytes), relative to max(1, |reference|).
EQUAL = TOLERANCE[4]

LSTM = "LSTM, streamed"


@dataclass(frozen=True)
class Agreement:
    """How one way of streaming compares with a reference, in the answers' unit.

    `largest` is the difference that comes closest to what is allowed, and `allowed` what is
    allowed there. `largest` is infinite where an answer is missing or not finite.
    """

    name: str
    answers: int
    calls: int
    largest: float
    allowed: float

    @property
    def equal(self) -> bool:
        """Whether every answer is as good as the reference's."""
        return self.largest <= self.allowed


def agree(plan: Plan, reference: Callable[[int], NDArray[np.float32]]) -> list[Agreement]:
    """Compare all answers of all sessions with a reference, a result for each way of streaming.

    `reference` gives all answers, (T, 1), to the series from a given week on. The sessions of a
    group are told of as one, by their worst answer.
    """
    found = []
    for tracks in ([plan.weekly], [plan.monthly], [plan.quarterly], plan.group):
        pairs = [difference(track.answers, reference(track.start)) for track in tracks]
        largest, allowed = max(pairs, key=lambda pair: pair[0] / pair[1])
        found.append(
            Agreement(
                name=tracks[0].name,
                answers=sum(len(track.answers) for track in tracks),
                calls=len(tracks[0].chunks),
                largest=largest,
                allowed=allowed,
            )
        )
    return found


def difference(answers: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, float]:
    """Return the difference that is largest beside what is allowed, and what is allowed there.

    Takes (T, O) each. |difference| of at most 1e-5 times max(1, |reference|) is equal.
    """
    if answers.shape != reference.shape or not np.isfinite(answers).all():
        return float("inf"), EQUAL
    exact = reference.astype(np.float64)
    off = np.abs(answers - exact)
    allowed = EQUAL * np.maximum(1.0, np.abs(exact))
    worst = int(np.argmax(off / allowed))
    return float(off.flat[worst]), float(allowed.flat[worst])


def compare_forecasts(
    answers: NDArray[np.float32],
    series: NDArray[np.float64],
    *,
    first: int,
    horizon: int,
    season: int,
) -> dict[str, Score]:
    """Return the errors of streamed forecasts and of two that cost nothing, by name.

    `answers` and `series` are (N, 1), answer t the forecast of week t + `horizon`. All are judged
    on the forecasts made in week `first` or later whose week is in the series: the same weeks
    that training held out.
    """
    made = slice(first, len(series) - horizon)
    truth = series[horizon:][made]
    forecasts = {
        LSTM: answers[made].astype(np.float64),
        "persistence": persistence(series, horizon)[made],
        "seasonal naive": seasonal_naive(series, horizon, season)[made],
    }
    return {name: score(forecast, truth) for name, forecast in forecasts.items()}


def broken_claims(agreements: Sequence[Agreement], scores: Mapping[str, Score]) -> list[str]:
    """Return, a sentence each, what the demo claims and its numbers don't bear out."""
    broken = [
        f"The answers of {found.name} differ from PyTorch's by {found.largest:.1e} ppm where "
        f"{found.allowed:.1e} is allowed."
        for found in agreements
        if not found.equal
    ]
    own = scores[LSTM].mae.mean()
    broken += [
        f"The forecasts are no better than {name}: {own:.3f} against {other.mae.mean():.3f} ppm."
        for name, other in scores.items()
        if name != LSTM and not own < other.mae.mean()
    ]
    return broken
