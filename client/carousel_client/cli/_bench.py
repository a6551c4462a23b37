"""`carousel bench`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

import carousel_client as carousel
from carousel_client.cli._common import InputError, Target, count, guarded
from carousel_client.cli._load import Figures, Load, Report, by_group, by_sessions, round_trips


class Mode(StrEnum):
    """How one client steps many sessions."""

    SESSIONS = "sessions"
    GROUP = "group"
    BOTH = "both"


# What one round of inputs, or of answers, may take here.
_MOST_BYTES = 1 << 30

Way = Callable[[carousel.aio.Client, carousel.ModelInfo, Load, Report], Awaitable[Figures]]
_WAYS: dict[Mode, Way] = {Mode.SESSIONS: by_sessions, Mode.GROUP: by_group}


@dataclass(frozen=True)
class Result:
    """What was measured, of what and where; `rpc_p50_ms` is of a call that does nothing."""

    address: str
    server: str
    model: str
    version: str
    load: Load
    rpc_p50_ms: float
    modes: dict[Mode, Figures]


@guarded
def bench(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="The model's name.")],
    *,
    sessions: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Sessions that are stepped at once.")
    ] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Steps that each sends at a time.")] = 1,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="How long to measure, for each mode.")
    ] = 5.0,
    mode: Annotated[
        Mode, typer.Option(help="Sessions each on their own, one group, or both in turn.")
    ] = Mode.BOTH,
    version: Annotated[str, typer.Option(help="The model's version.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model on the server, from here: steps a second, and how long a step takes.

    Opens sessions, sends random inputs in the range that the model allows, each when the last is
    answered, and closes the sessions. A call is an `await` of `step()`: of one session, which
    shares messages with the others, or of the group. Beside it stands the round trip of a call
    that does nothing: how far away the server is.

    Examples: `carousel bench co2`, `carousel bench co2 --sessions 1000 --mode group --json`
    """
    load = Load(sessions, steps, seconds)
    modes: list[Mode] = list(_WAYS) if mode is Mode.BOTH else [mode]
    result = asyncio.run(_measure(context.obj, model, version, load, modes))
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
    else:
        _print(result)


async def _measure(
    target: Target, name: str, version: str, load: Load, modes: list[Mode]
) -> Result:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    async with target.connect_async() as client:
        info, model = await client.info(), await client.model(name, version)
        _check_size(load, model)
        trips, figures = await round_trips(client), {}
        console = Console(stderr=True)
        hidden = not console.is_terminal
        with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
            for mode in modes:
                bar = progress.add_task(f"{model.name}: {mode}", total=1.0)
                report = partial(_advance, progress, bar)
                figures[mode] = await _WAYS[mode](client, model, load, report)
                progress.remove_task(bar)
                trips += await round_trips(client)
    return Result(
        address=target.address,
        server=info.version,
        model=model.name,
        version=model.version,
        load=load,
        rpc_p50_ms=float(np.median(trips)) * 1e3,
        modes=figures,
    )


def _check_size(load: Load, model: carousel.ModelInfo) -> None:
    size = load.sessions * load.steps * model.step_bytes
    if size > _MOST_BYTES:
        raise InputError(
            f"{count(load.sessions, 'session')} with {count(load.steps, 'step')} at a time take "
            f"{size:,} bytes, but at most {_MOST_BYTES:,} were expected; choose fewer of either"
        )


def _advance(progress: Progress, bar: TaskID, done: float) -> None:
    progress.update(bar, completed=done)


def _print(result: Result) -> None:
    load = result.load
    table = Table()
    table.add_column("mode")
    for name in ("steps/s", "calls/s", "p50 ms", "p90 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for mode, figures in result.modes.items():
        rates = (figures.steps_per_second, figures.calls_per_second)
        percentiles = (figures.p50_ms, figures.p90_ms, figures.p99_ms)
        table.add_row(mode, *(f"{r:,.0f}" for r in rates), *(f"{p:,.3f}" for p in percentiles))
    console = Console(highlight=False)
    chunk = "a step" if load.steps == 1 else f"{load.steps:,} steps"
    console.print(
        f"{result.model}/{result.version} at {result.address}: {load.sessions:,} sessions, "
        f"{chunk} at a time, {load.seconds:g} s"
    )
    console.print(table)
    console.print(f"round trip of a call that does nothing: p50 {result.rpc_p50_ms:.3f} ms")
