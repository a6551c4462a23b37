"""Histograms for hot paths: a bisection and two additions, without a lock.

prometheus-client's own cost some microseconds an observation, several times a tick.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Tally:
    """One histogram. One thread at a time observes; any may read."""

    def __init__(self, buckets: Sequence[float]) -> None:
        self._buckets = buckets
        self.counts = [0] * (len(buckets) + 1)  # the last one: beyond all buckets
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._buckets, value)] += 1
        self.sum += value


class Tallies(Collector):
    """A histogram for each combination of label values."""

    def __init__(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str]
    ) -> None:
        self._name = name
        self._text = text
        self._buckets = buckets
        self._labels = labels
        self._tallies: dict[tuple[str, ...], list[Tally]] = {}

    def labels(self, *values: str) -> Tally:
        """Return a histogram for label values, for one thread; those of several are added up."""
        tally = Tally(self._buckets)
        self._tallies.setdefault(values, []).append(tally)
        return tally

    def collect(self) -> Iterable[Metric]:
        """Yield what Prometheus scrapes."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        bounds = [*map(str, map(float, self._buckets)), "+Inf"]
        for values, tallies in self._tallies.items():
            counts = map(sum, zip(*(tally.counts for tally in tallies), strict=True))
            cumulative = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric(values, cumulative, sum_value=sum(tally.sum for tally in tallies))
        yield family
