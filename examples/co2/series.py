"""The measured series, and which of its years were held out from training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carousel_exporter.data import read_series


@dataclass(frozen=True)
class Measured:
    """Weekly values in ppm, (N, 1), and their dates; weeks from `first` on were held out.

    The 59 weeks without a measurement have the value of the week before, as in training: a
    station that streams has to send something too.
    """

    dates: list[date]
    values: NDArray[np.float64]
    first: int

    @property
    def held_out(self) -> str:
        """The held-out weeks, in words."""
        begin, end = self.dates[self.first], self.dates[-1]
        return f"{len(self.dates) - self.first} weeks, {begin:%B %Y} to {end:%B %Y}"

    def place(self, forecasts: NDArray[np.floating], *, ahead: int) -> NDArray[np.float64]:
        """Put forecasts, (T, 1) with T ≤ N, at the weeks that they speak of: (N,), else NaN.

        Forecast t was made in week t for `ahead` weeks later; those beyond the series are dropped.
        """
        placed = np.full(len(self.dates), np.nan)
        within = forecasts[: len(placed) - ahead, 0]
        placed[ahead : ahead + len(within)] = within
        return placed

    def new_years(self) -> list[tuple[int, str]]:
        """Return the held-out weeks in which a year begins, counted from `first`, and the years."""
        dates = self.dates[self.first :]
        pairs = enumerate(pairwise(dates), start=1)
        return [(week, str(here.year)) for week, (before, here) in pairs if before.year < here.year]


def read_measured(path: Path, *, first: int) -> Measured:
    """Read the CSV file of the series. Raises carousel_exporter.errors.DataError."""
    series = read_series(path, ("co2",))
    dates = [date.fromisoformat(label) for label in series.labels]
    return Measured(dates, series.values, first)
