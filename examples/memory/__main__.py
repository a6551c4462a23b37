"""What an RNN, a GRU and an LSTM still know after many steps: `python -m examples.memory`.

Trains each of them on two problems that only a memory solves, makes model files of them, serves
those, and asks again by streaming, one step at a time. The exit status is 0, 1 where a streamed
score differs or something failed, and 130 after Ctrl-C; started again, it goes on where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from itertools import groupby

from rich.console import Console

from carousel_exporter.files import replacing
from carousel_exporter.source import use_one_thread
from carousel_exporter.wording import counted
from examples.common.display import Display
from examples.common.ending import run_to_end
from examples.common.errors import DemoError
from examples.common.exporting import shown
from examples.common.progress import counted as shown_bar
from examples.common.serving import serving
from examples.memory.grid import Grid, Outcome
from examples.memory.networks import NETWORKS
from examples.memory.options import Options, parse_options
from examples.memory.problems import PROBLEMS
from examples.memory.streaming import Comparison, compare, export, repository
from examples.memory.summary import markdown, write_csv
from examples.memory.tables import comparison_table, score_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return its exit status."""
    options = parse_options(arguments)
    display = Display(Console(highlight=False))
    return run_to_end(display, partial(run, display, options))


def run(display: Display, options: Options) -> None:
    """Tell and do everything."""
    use_one_thread()
    grid = Grid(
        problems=tuple(PROBLEMS),
        networks=tuple(NETWORKS),
        lags=options.lags,
        seeds=options.seeds,
        settings=options.settings,
        folder=options.runs,
    )
    display.title(
        "Carousel: how long a recurrent network remembers.",
        "RNN, GRU and LSTM with as many weights each, on two problems that only a memory solves.",
    )
    outcomes = _train(display, grid)
    comparisons = _serve(display, options, grid)
    _keep(display, options, grid, outcomes, comparisons)
    differing = [found.run.name for found in comparisons if not found.equal]
    if differing:
        raise DemoError(f"the streamed score of {', '.join(differing)} is another.")


def _train(display: Display, grid: Grid) -> list[Outcome]:
    display.step("Train", f"{len(grid.runs())} networks; those that are done are only read.")
    outcomes: list[Outcome] = []
    for (seed, lag), some in groupby(
        grid.outcomes(), lambda found: (found.run.seed, found.run.lag)
    ):
        done = list(some)
        seconds = sum(outcome.seconds for outcome in done)
        display.say(f"seed {seed}, {lag} steps: {counted(len(done), 'network')}, {seconds:.0f} s")
        outcomes += done
    for problem in grid.problems:
        display.say("")
        display.show(score_table(outcomes, PROBLEMS[problem]))
    return outcomes


def _serve(display: Display, options: Options, grid: Grid) -> list[Comparison]:
    """Serve the networks, one seed after the other: dozens of models a process, not hundreds."""
    runs = grid.runs()
    display.step("Export", "each network into one model file.")
    for _ in shown_bar(export(grid, options.models), total=len(runs), told="exporting"):
        pass
    display.step("Stream", f"{grid.settings.test:,} sequences a network, one step at a time.")
    comparisons: list[Comparison] = []
    for seed in grid.seeds:
        with serving(repository(options.models, seed), log=options.out / "server.log") as server:
            display.say(
                f"seed {seed}: carousel-server, process {server.pid}, gRPC at {server.address}"
            )
            some = [run for run in runs if run.seed == seed]
            found = compare(grid, some, server.address)
            comparisons += shown_bar(found, total=len(some), told="streaming")
    display.show(comparison_table(comparisons))
    return comparisons


def _keep(
    display: Display,
    options: Options,
    grid: Grid,
    outcomes: Sequence[Outcome],
    comparisons: Sequence[Comparison],
) -> None:
    from examples.memory.picture import draw_picture  # noqa: PLC0415 - matplotlib takes a second

    display.step("Keep", "what was found.")
    draw_picture(options.picture, outcomes, grid.problems)
    display.say(f"picture: {shown(options.picture)}")
    write_csv(options.csv, outcomes, comparisons)
    display.say(f"every training: {shown(options.csv)}")
    with replacing(options.tables) as temporary:
        temporary.write_text(markdown(outcomes))
    display.say(f"medians and ranges: {shown(options.tables)}")


if __name__ == "__main__":
    sys.exit(main())
