"""The whole way, from a CSV file to a stream of forecasts: `python -m examples.co2.demo`.

Trains an LSTM on the weekly CO2 of Mauna Loa, makes it a model file, serves that file and streams
the years that were held out, from sessions of several speeds at once. The exit status is 0 where
the streamed answers equal PyTorch's and beat forecasts that cost nothing, 1 where they don't or
something failed, and 130 after Ctrl-C.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import carousel_client as carousel
from carousel_exporter.errors import ExporterError
from examples.co2.options import Options, parse_options
from examples.co2.record import forget, make_console, save_svg
from examples.co2.scoring import agree, broken_claims, compare_forecasts
from examples.co2.series import Measured, read_measured
from examples.co2.sessions import MODEL, Plan, make_plan, stream
from examples.co2.tables import agreement_table, score_table, stream_chart
from examples.common.display import Display
from examples.common.errors import DemoError
from examples.common.exporting import program_path, run_export, shown
from examples.common.metrics import fetch_figures
from examples.common.serving import serving
from examples.common.signals import ending_on_signals
from examples.common.tables import figure_table

if TYPE_CHECKING:
    from carousel_exporter.network import RecurrentNetwork

DATA = Path(__file__).parent / "data" / "co2.csv"
HORIZON, SEASON = 4, 52  # weeks
#: The weeks in which the group's 16 sessions begin: every other year from 1958 on.
GROUP_STARTS = range(0, 16 * 104, 104)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    options = parse_options(arguments)
    display = Display(make_console(record=options.record is not None))
    begin = time.monotonic()
    try:
        with ending_on_signals():
            broken = run(display, options)
    except KeyboardInterrupt:
        broken, status = ["Interrupted; nothing is left running."], 130
    except (DemoError, ExporterError, carousel.CarouselError, OSError) as error:
        broken, status = [f"The demo failed: {error}"], 1
    else:
        status = 1 if broken else 0
    for sentence in broken:
        display.say(sentence, style="bold red")
    if status == 0:
        conclude(display, options, seconds=time.monotonic() - begin)
    return status


def run(display: Display, options: Options) -> list[str]:
    """Tell and do everything; return what the demo claims and didn't hold, a sentence each."""
    display.title(
        "Carousel: recurrent networks that stream, with their state at the server.",
        "This forecasts the CO2 over Mauna Loa four weeks ahead, as measurements come in.",
    )
    make_model(display, options)

    from carousel_exporter.checkpoint import load  # noqa: PLC0415 - torch takes a second to import

    checkpoint = load(options.checkpoint)
    measured = read_measured(DATA, first=checkpoint.split.validation)
    plan = make_plan(list(GROUP_STARTS))
    serve_and_stream(display, options, plan, measured)
    return judge(display, options, checkpoint.network, plan, measured)


def make_model(display: Display, options: Options) -> None:
    """Train a network, make it a model file in a repository, and prove the file right."""
    model = options.models / MODEL / "1" / "model.onnx"
    export = partial(run_export, display)

    display.step("Train", "an LSTM on 70 % of the weeks since 1958; the last 15 % are held out.")
    export(
        *("train", "--data", DATA, "--target", "co2", "--unit", "ppm"),
        *("--horizon", str(HORIZON), "--season", str(SEASON), "--window", "104"),
        *("--layers", "2", "--dropout", "0.2", *options.shorter),
        *("--out", options.checkpoint, "--plot", options.out / "training.png"),
    )
    display.step("Convert", "the network to one ONNX file, which says itself how to serve it.")
    export("convert", options.checkpoint, "--out", model, last_line_only=True)
    display.step("Verify", "that the file answers the same however a sequence is cut and batched.")
    export("verify", model, "--against", options.checkpoint, "--data", DATA)


def serve_and_stream(display: Display, options: Options, plan: Plan, measured: Measured) -> None:
    """Start a server, stream the held-out weeks through it, and show what came of it."""
    chart = partial(stream_chart, measured, plan.weekly, ahead=HORIZON)
    series = measured.values.astype(np.float32)  # (N, 1), in ppm: what clients send

    forget(display.console)  # a recording that a page shows has room for what follows alone
    display.step("Serve", "the file from a process of its own, on free ports of this machine.")
    with serving(options.models, log=options.out / "server.log") as server:
        display.say(f"carousel-server, process {server.pid}: gRPC at {server.address}")
        display.step(
            "Stream",
            f"what was held out ({measured.held_out}) over one connection, from {len(plan.tracks)} "
            "sessions side by side: one sends a week at a time, one sends 4, one 13, and a group "
            f"of {len(plan.group)}, whose records begin in different years, steps together.",
        )
        with display.live(chart):
            asyncio.run(
                stream(server.address, series, plan, first=measured.first, pause=options.pause)
            )
        figures = fetch_figures(server.http, MODEL)
    display.show(chart(width=display.width))
    display.show(figure_table(figures))


def judge(
    display: Display,
    options: Options,
    forecaster: RecurrentNetwork,
    plan: Plan,
    measured: Measured,
) -> list[str]:
    """Show how good the streamed answers are; return the claims that don't hold."""
    import torch  # noqa: PLC0415 - as above

    from carousel_exporter.training import predict  # noqa: PLC0415 - as above
    from examples.co2.picture import draw_picture  # noqa: PLC0415 - matplotlib is as slow

    # Steps this small gain nothing from a second thread, and where another program keeps a core
    # busy, threads that wait for each other at every step make seconds of milliseconds.
    torch.set_num_threads(1)
    series = measured.values[:, None].astype(np.float32)  # (N, B=1, 1)
    agreements = agree(plan, lambda start: predict(forecaster, series[start:])[:, 0])
    scores = compare_forecasts(
        plan.weekly.answers, measured.values, first=measured.first, horizon=HORIZON, season=SEASON
    )
    display.step("Compare", "all streamed answers with PyTorch's to the whole sequence at once:")
    display.show(agreement_table(agreements))
    display.say("and the streamed forecasts of the held-out weeks with what costs nothing:")
    display.show(score_table(scores))
    draw_picture(options.picture, measured, plan.weekly.answers, ahead=HORIZON)
    display.say(f"picture: {shown(options.picture)}")
    return broken_claims(agreements, scores)


def conclude(display: Display, options: Options, *, seconds: float) -> None:
    """Say that all is well, and what to paste next."""
    display.say(
        f"Equal to PyTorch, better than both: all of it in {seconds:.0f} s.", style="bold green"
    )
    if options.record is not None:
        save_svg(display.console, options.record, title="make demo, from the server's start on")
    display.step("Go on", "by serving the model yourself in one terminal,")
    display.command(shown(program_path("carousel-server")), "--models", shown(options.models))
    display.say("and streaming to it from another:")
    # Empty cells take the value before them, as in training.
    stream_it = (shown(program_path("carousel")), "stream", MODEL, "--fill", "forward")
    display.command(*stream_it, after=f"< {shown(DATA)}")


if __name__ == "__main__":
    sys.exit(main())
