"""The tables that are shown while the example runs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from examples.common.tables import make_table
from examples.memory.grid import Outcome
from examples.memory.networks import NETWORKS
from examples.memory.problems import Problem
from examples.memory.streaming import Comparison
from examples.memory.summary import Spread, headline, rows, spreads


def score_table(outcomes: Sequence[Outcome], problem: Problem) -> Table:
    """Return the medians of a problem's scores, a row a lag; green where the problem is solved."""
    heading, *body = rows(outcomes, problem, Spread.median_words)
    table = make_table(heading[0], right=heading[1:], last=False)
    table.title, table.title_justify = headline(problem), "left"
    by_network = spreads(outcomes, problem.name)
    for lag, *cells in body:
        middles = [by_lag[int(lag)].middle for by_lag in by_network.values()]
        styles = ["green" if problem.is_learnt(middle) else "" for middle in middles]
        table.add_row(lag, *map(Text, cells, styles))
    return table


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Return how streamed scores compare with PyTorch's, a row a kind of network."""
    table = make_table("network", right=("models", "steps", "same score", "differ by up to"))
    for name, network in NETWORKS.items():
        some = [found for found in comparisons if found.run.network == name]
        same = sum(found.equal for found in some)
        largest = max(found.largest for found in some)
        verdict = Text("equal", "green") if same == len(some) else Text("differs", "bold red")
        steps = sum(found.steps for found in some)
        numbers = (f"{len(some)}", f"{steps:,}", f"{same}", f"{largest:.0e}")
        table.add_row(network.title, *numbers, verdict)
    return table
