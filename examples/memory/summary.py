"""What the outcomes of several seeds come to, and the tables that are kept: Markdown and CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from carousel_exporter.files import replacing
from examples.memory.grid import Outcome, Run
from examples.memory.networks import NETWORKS
from examples.memory.problems import PROBLEMS, Problem
from examples.memory.streaming import Comparison

_COLUMNS: Final = (
    *("problem", "network", "steps", "seed", "score", "streamed_score", "largest_difference"),
    *("updates", "best_update", "cpu_seconds"),
)


@dataclass(frozen=True)
class Spread:
    """The scores of one network at one lag, over the seeds."""

    scores: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.scores)

    def median_words(self, problem: Problem) -> str:
        """Write the median."""
        return problem.words(self.middle)

    def words(self, problem: Problem) -> str:
        """Write the median, and the range where the seeds differ."""
        low, high = problem.words(min(self.scores)), problem.words(max(self.scores))
        middle = problem.words(self.middle)
        return middle if low == high else f"{middle} ({low} to {high})"


def spreads(outcomes: Sequence[Outcome], problem: str) -> dict[str, dict[int, Spread]]:
    """Return the scores at a problem, by network and lag."""
    scores: dict[str, dict[int, list[float]]] = {}
    for outcome in outcomes:
        run = outcome.run
        if run.problem == problem:
            scores.setdefault(run.network, {}).setdefault(run.lag, []).append(outcome.score)
    return {
        network: {lag: Spread(tuple(some)) for lag, some in by_lag.items()}
        for network, by_lag in scores.items()
    }


def rows(
    outcomes: Sequence[Outcome], problem: Problem, words: Callable[[Spread, Problem], str]
) -> Iterator[list[str]]:
    """Yield the table of a problem: a heading, then a row a lag with a cell a network."""
    by_network = spreads(outcomes, problem.name)
    yield ["steps", *(NETWORKS[network].title for network in by_network)]
    for lag in next(iter(by_network.values())):
        yield [str(lag), *(words(by_lag[lag], problem) for by_lag in by_network.values())]


def headline(problem: Problem) -> str:
    """Say what a table of a problem's scores shows."""
    direction = "higher" if problem.better > 0 else "lower"
    chance = problem.words(problem.chance)
    return f"{problem.title}: {problem.measure}; {direction} is better, chance is {chance}"


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return a table a problem: medians and ranges over the seeds."""
    return "\n".join(_lines(outcomes))


def write_csv(path: Path, outcomes: Sequence[Outcome], comparisons: Sequence[Comparison]) -> None:
    """Write every training by itself, with its score in PyTorch and streamed."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(map(_record, outcomes, comparisons))


def read_csv(path: Path) -> list[Outcome]:
    """Read the trainings that `write_csv` wrote."""
    with path.open(newline="") as file:
        return [
            Outcome(
                Run(line["problem"], line["network"], int(line["steps"]), int(line["seed"])),
                score=float(line["score"]),
                best_update=int(line["best_update"]),
                updates=int(line["updates"]),
                seconds=float(line["cpu_seconds"]),
            )
            for line in csv.DictReader(file)
        ]


def _lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for name in dict.fromkeys(outcome.run.problem for outcome in outcomes):
        problem = PROBLEMS[name]
        heading, *body = rows(outcomes, problem, Spread.words)
        yield f"{headline(problem).capitalize()}.\n"
        for cells in (heading, ["---:"] * len(heading), *body):
            yield f"| {' | '.join(cells)} |"
        yield ""


def _record(outcome: Outcome, streamed: Comparison) -> tuple[str, ...]:
    run = outcome.run
    assert run == streamed.run
    return (
        *(run.problem, run.network, str(run.lag), str(run.seed)),
        *(f"{outcome.score:.6g}", f"{streamed.streamed:.6g}", f"{streamed.largest:.1e}"),
        *(str(outcome.updates), str(outcome.best_update), f"{outcome.seconds:.1f}"),
    )
