"""`carousel-export train`: a CSV file in, a checkpoint, a table and a picture out."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from carousel_exporter.commands.options import names
from carousel_exporter.errors import SettingsError
from carousel_exporter.files import check_writable

if TYPE_CHECKING:
    from carousel_exporter.checkpoint import Fact
    from carousel_exporter.data import Series
    from carousel_exporter.evaluation import Evaluation
    from carousel_exporter.task import Task
    from carousel_exporter.training import Epoch, TrainingResult, TrainingSettings

#: What a shell reports for a command that Ctrl-C ended.
INTERRUPTED = 130


def train(
    *,
    data: Annotated[Path, typer.Option(help="CSV file with a header; rows in the order of time.")],
    target: Annotated[
        list[str], typer.Option(help="Column to forecast; a,b or repeated for more.")
    ],
    features: Annotated[
        list[str] | None,
        typer.Option(help="Columns that go in, a,b or repeated. (default: all columns of numbers)"),
    ] = None,
    horizon: Annotated[int, typer.Option(help="How many steps ahead to forecast.")] = 1,
    season: Annotated[
        int | None, typer.Option(help="Steps in a season, for the seasonal-naive baseline.")
    ] = None,
    changes: Annotated[
        bool | None,
        typer.Option(
            "--changes/--levels",
            help="Learn changes from step to step, or plain values. (default: changes where every "
            "target is a feature)",
        ),
    ] = None,
    window: Annotated[int, typer.Option(help="Steps that a gradient goes back.")] = 64,
    batch: Annotated[int, typer.Option(help="Streams trained side by side.")] = 8,
    layers: Annotated[int, typer.Option(help="Recurrent layers.")] = 1,
    cell: Annotated[
        str,
        typer.Option(metavar="lstm|gru|rnn", help="Kind of the layers; rnn squashes with tanh."),
    ] = "lstm",
    hidden: Annotated[int, typer.Option(help="Units a layer.")] = 64,
    dropout: Annotated[float, typer.Option(help="Dropout between layers, 0 to 1.")] = 0.0,
    epochs: Annotated[int, typer.Option(help="The most passes over the training part.")] = 300,
    patience: Annotated[
        int, typer.Option(help="Epochs without a better validation loss before stopping.")
    ] = 40,
    lr: Annotated[float, typer.Option(help="Learning rate to begin with (Adam).")] = 3e-3,
    clip: Annotated[float, typer.Option(help="The gradient's largest norm.")] = 1.0,
    validation: Annotated[
        float, typer.Option(help="Fraction of the series for validation.")
    ] = 0.15,
    test: Annotated[
        float, typer.Option(help="Fraction of the series, its end, for the test.")
    ] = 0.15,
    seed: Annotated[int, typer.Option(help="Seed; the same one gives the same network.")] = 0,
    threads: Annotated[int, typer.Option(help="Processor threads; 1 is best for small ones.")] = 1,
    unit: Annotated[str, typer.Option(help="Unit of the targets, for tables and pictures.")] = "",
    out: Annotated[Path, typer.Option(help="Where the checkpoint goes.")] = Path("forecaster.pt"),
    plot: Annotated[
        Path | None,
        typer.Option(help="Where the picture goes. (default: --out with the ending .png)"),
    ] = None,
) -> None:
    """Train a forecaster on a CSV file, and compare it with forecasts that cost nothing.

    The series is cut into training, validation and test parts in the order of time. The best
    network on the validation part is kept; Ctrl-C ends training early and keeps it too.

    For example:

        carousel-export train --data co2.csv --target co2 --horizon 4 --season 52 --out co2.pt
    """
    import torch  # noqa: PLC0415 - it takes seconds to import

    from carousel_exporter.data import read_series  # noqa: PLC0415 - as above
    from carousel_exporter.task import make_task  # noqa: PLC0415
    from carousel_exporter.training import TrainingSettings  # noqa: PLC0415

    if threads < 1:
        raise SettingsError(f"--threads must be at least 1, not {threads}.")
    torch.set_num_threads(threads)
    settings = TrainingSettings(
        window=window,
        batch=batch,
        layers=layers,
        hidden=hidden,
        cell=cell,
        dropout=dropout,
        epochs=epochs,
        learning_rate=lr,
        clip=clip,
        patience=patience,
        seed=seed,
    )
    targets, inputs = names(target), names(features)
    series = read_series(data, (*inputs, *targets) if inputs else ())
    task = make_task(
        series,
        targets=targets,
        features=inputs,
        horizon=horizon,
        in_changes=changes,
        validation=validation,
        test=test,
    )
    picture = plot or out.with_suffix(".png")
    _check_places(data, out, picture)
    _Run(data, series, task, settings, season, unit, out, picture, Console(emoji=False)).go()


def _check_places(data: Path, out: Path, picture: Path) -> None:
    """Raise ExporterError where a result could not be written, before any work is done for it."""
    if out.resolve() == picture.resolve():
        raise SettingsError(f"--out and --plot are both {out}: give each a file of its own.")
    for place in (out, picture):
        if place.resolve() == data.resolve():
            raise SettingsError(f"{place} is the file of --data, and would be written over.")
        check_writable(place)


@dataclass(frozen=True)
class _Run:
    """One training run, from what was asked for to what is left on the disk and the screen."""

    data: Path
    series: Series
    task: Task
    settings: TrainingSettings
    season: int | None
    unit: str
    out: Path
    picture: Path
    console: Console

    def go(self) -> None:
        from carousel_exporter.evaluation import check_season, evaluate  # noqa: PLC0415

        if self.season is not None:
            check_season(self.task, self.season)
        self._tell_of_the_data()
        result, seconds = self._train()
        if result.best.epoch == 0:
            self.console.print("Interrupted before the first epoch was over: nothing was kept.")
            raise typer.Exit(INTERRUPTED)
        evaluation = evaluate(result.best.forecaster, self.task, season=self.season)
        self._save(result, _test_facts(evaluation))
        self._show(result, evaluation, seconds)
        if result.interrupted:
            raise typer.Exit(INTERRUPTED)

    def _tell_of_the_data(self) -> None:
        series, split = self.series, self.task.split
        filled = {name: count for name, count in series.filled.items() if count}
        lines = [
            f"{self.data}: {len(series.values)} steps; training 0 to {split.train - 1}, validation "
            f"to {split.validation - 1}, test to {split.test - 1}"
        ]
        if series.dropped:
            lines.append(f"dropped {series.dropped} leading rows with missing values")
        lines += [
            f"filled {count} missing values of {name} with the one before"
            for name, count in filled.items()
        ]
        for line in lines:
            self.console.print(escape(line), soft_wrap=True, highlight=False)

    def _train(self) -> tuple[TrainingResult, float]:
        """Train with a progress bar, saving each better network; return the seconds it took too."""
        from carousel_exporter.training import train as run  # noqa: PLC0415

        begin = time.monotonic()
        with Progress(
            TextColumn("training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True, emoji=False),
        ) as progress:
            bar = progress.add_task("training", total=self.settings.epochs, losses="")

            def on_epoch(epoch: Epoch, result: TrainingResult) -> None:
                losses = f"loss {epoch.train_loss:.3g}, validation {epoch.validation_loss:.3g}"
                losses += f", best {result.best.loss:.3g}"
                progress.update(bar, advance=1, losses=losses)
                if epoch.best:
                    self._save(result, {})

            result = run(self.task, self.settings, on_epoch=on_epoch)
        return result, time.monotonic() - begin

    def _save(self, result: TrainingResult, more: dict[str, Fact]) -> None:
        from carousel_exporter import checkpoint  # noqa: PLC0415

        checkpoint.save(
            checkpoint.Checkpoint(
                forecaster=result.best.forecaster,
                features=self.task.features,
                targets=self.task.targets,
                horizon=self.task.horizon,
                unit=self.unit,
                levels=self.task.levels,
                split=self.task.split,
                facts=self._facts(result) | more,
            ),
            self.out,
        )

    def _facts(self, result: TrainingResult) -> dict[str, Fact]:
        from carousel_exporter.source import sha256  # noqa: PLC0415

        return {
            "data": self.data.name,
            "data_sha256": sha256(self.data),
            "steps": len(self.series.values),
            "filled": sum(self.series.filled.values()),
            "best_epoch": result.best.epoch,
            "validation_loss": result.best.loss,
            **dataclasses.asdict(self.settings),
        }

    def _show(self, result: TrainingResult, evaluation: Evaluation, seconds: float) -> None:
        from carousel_exporter.commands.tables import score_table  # noqa: PLC0415
        from carousel_exporter.plots import plot_forecast  # noqa: PLC0415

        ended = "interrupted after" if result.interrupted else "ended after"
        self.console.print(
            f"{ended} {len(result.epochs)} epochs and {seconds:.1f} s; the best was epoch "
            f"{result.best.epoch}, with a validation loss of {result.best.loss:.4f}",
            soft_wrap=True,
            highlight=False,
        )
        steps = len(evaluation.truth)
        task = self.task
        self.console.print(
            score_table(evaluation.scores, task.targets, self.unit, task.horizon, steps)
        )
        plot_forecast(
            self.picture,
            truth=evaluation.truth,
            forecast=evaluation.forecast,
            labels=self.series.labels[evaluation.start :],
            targets=task.targets,
            unit=self.unit,
            horizon=task.horizon,
        )
        wrote = f"checkpoint: {self.out}\npicture:    {self.picture}"
        self.console.print(escape(wrote), soft_wrap=True, highlight=False)


def _test_facts(evaluation: Evaluation) -> dict[str, Fact]:
    """Return the mean absolute errors on the test part, averaged over the targets."""
    return {
        f"test_mae_{name.lower().replace(' ', '_')}": round(float(score.mae.mean()), 6)
        for name, score in evaluation.scores.items()
    }
