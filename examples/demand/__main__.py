"""Electricity demand, a day ahead, from many sessions: `python -m examples.demand`.

Trains an LSTM on half-hourly demand, serves it, and streams the weeks that were held out to
sessions that begin at different times. The exit status is 0 where the streamed answers equal
PyTorch's, 1 where they don't or something failed, and 130 after Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from carousel_exporter.data import Series, read_series
from examples.common.display import Display
from examples.common.ending import run_to_end
from examples.common.equality import check_equal
from examples.common.exporting import run_export, shown
from examples.common.metrics import fetch_figures
from examples.common.options import Options, make_parser, read_options
from examples.common.serving import serving
from examples.common.tables import figure_table, make_table
from examples.demand.calendar import COLUMNS, DAY, WEEK, write_with_calendar
from examples.demand.scoring import Scores, judge
from examples.demand.streaming import MODEL, Track, stream

#: A session is opened every so many half hours, and looked at for so many.
EVERY, AGES = 8, 2 * DAY
#: The ages that the table shows, in half hours.
AGES_SHOWN = (0, 2, 6, 12, 24, 48, 95)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return its exit status."""
    parser = make_parser(
        "demand",
        "Train a forecaster of electricity demand, serve it, and stream to many sessions.",
        quick="train for 8 epochs",
    )
    options = read_options(parser.parse_args(arguments), "demand")
    display = Display(Console(highlight=False))
    return run_to_end(display, partial(run, display, options))


def run(display: Display, options: Options) -> None:
    """Tell and do everything."""
    display.title(
        "Carousel: electricity demand, a day ahead.",
        "Half-hourly, England and Wales, summer 2000; the calendar's columns come along.",
    )
    data, checkpoint = options.out / "demand.csv", options.out / "demand.pt"
    model = options.models / MODEL / "1" / "model.onnx"
    write_with_calendar(data)
    display.step("Train", "an LSTM on the first 70 % of the weeks; the last 15 % are held out.")
    run_export(
        display,
        *("train", "--data", data, "--target", "demand", "--unit", "MW"),
        *("--horizon", str(DAY), "--season", str(WEEK), "--window", str(WEEK // 2)),
        *("--batch", "4", "--epochs", "8" if options.quick else "100", "--patience", "20"),
        *("--hidden", "128", "--out", checkpoint, "--plot", options.out / "training.png"),
    )
    display.step("Convert", "the network to one ONNX file, proved equal to PyTorch.")
    run_export(display, "convert", checkpoint, "--out", model, last_line_only=True)
    series, first = _read(data, checkpoint)
    starts = (0, *range(first, len(series.values) - DAY - AGES, EVERY))
    display.step("Serve", "the file from a process of its own, on free ports of this machine.")
    with serving(options.models, log=options.log) as server:
        display.say(f"carousel-server, process {server.pid}: gRPC at {server.address}")
        display.step(
            "Stream",
            f"{len(series.values) - first} half hours to {len(starts)} sessions together: one has "
            "been open from the first week on, and every four hours another one begins.",
        )
        values = series.values.astype(np.float32)
        tracks = stream(server.address, values, starts, first=first)
        figures = fetch_figures(server.http, MODEL)
    display.show(figure_table(figures))
    display.say(_compare(checkpoint, values, tracks))
    demand = series.select(["demand"])[:, 0]
    scores = judge(tracks, demand, first=first, ages=AGES)
    _show_scores(display, scores)

    from examples.demand.picture import draw_picture  # noqa: PLC0415 - matplotlib takes a second

    times = [datetime.fromisoformat(label) for label in series.labels[first:]]
    draw_picture(options.picture, times, demand[first:], tracks[0].since(first), scores)
    display.say(f"picture: {shown(options.picture)}")


def _read(data: Path, checkpoint: Path) -> tuple[Series, int]:
    """Return the series, its columns in the network's order, and where the held-out part begins."""
    from carousel_exporter.checkpoint import load  # noqa: PLC0415 - torch takes a second to import

    found = load(checkpoint)
    assert set(found.features) == {"demand", *COLUMNS}
    return read_series(data, found.features), found.split.validation


def _compare(checkpoint: Path, values: np.ndarray, tracks: list[Track]) -> str:
    """Compare all streamed answers with PyTorch's. Raises DemoError."""
    from carousel_exporter.checkpoint import load  # noqa: PLC0415 - as above
    from carousel_exporter.source import use_one_thread  # noqa: PLC0415 - as above
    from carousel_exporter.training import predict  # noqa: PLC0415 - as above

    use_one_thread()
    network = load(checkpoint).network
    return check_equal(
        (track.answers, predict(network, values[track.start :, None])[:, 0, 0]) for track in tracks
    )


def _show_scores(display: Display, scores: Scores) -> None:
    display.step("Judge", f"the forecasts of {scores.half_hours} half hours, a day ahead.")
    table = make_table("forecast", right=("MAE (MW)", "beside seasonal naive"), last=False)
    gain = scores.old / scores.naive - 1
    beside = f"{abs(gain):.0%} {'lower' if gain < 0 else 'higher'}"
    table.add_row("LSTM, open from the beginning", f"{scores.old:.0f}", beside)
    table.add_row("seasonal naive: as a week before", f"{scores.naive:.0f}", "")
    display.show(table)
    right = ("MAE (MW)", "the old session's")
    table = make_table("a new session, so long after it was opened", right=right, last=False)
    for age in AGES_SHOWN:
        row = (f"{age / 2:g} h", f"{scores.new[age]:.0f}", f"{scores.beside[age]:.0f}")
        table.add_row(*row)
    display.show(table)


if __name__ == "__main__":
    sys.exit(main())
