"""One training run, from what was asked for to what is left on the disk and the screen."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from carousel_exporter.errors import SettingsError
from carousel_exporter.files import check_writable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from carousel_exporter.checkpoint import Checkpoint, Fact
    from carousel_exporter.lesson import Lesson
    from carousel_exporter.network import RecurrentNetwork
    from carousel_exporter.settings import TrainingSettings
    from carousel_exporter.training import Epoch, Trainer, TrainingResult

#: What a shell reports for a command that Ctrl-C ended.
INTERRUPTED = 130
#: Seconds between two savings of what an interrupted run goes on from, at least.
SAVE_EVERY = 1.0


@dataclass(frozen=True)
class Verdict:
    """How good a network is on the test part: in figures, as a table, and drawn."""

    facts: Mapping[str, Fact]
    table: Table
    figure: Figure


class Assignment(Protocol):
    """One task on one person's data."""

    @property
    def lesson(self) -> Lesson:
        """The task as training sees it."""
        ...

    @property
    def facts(self) -> Mapping[str, Fact]:
        """What the data are: noted in the checkpoint, and the same where a run is resumed."""
        ...

    def introduction(self) -> list[str]:
        """Return what there is to say of the data, in lines."""
        ...

    def checkpoint(self, network: RecurrentNetwork, facts: dict[str, Fact]) -> Checkpoint:
        """Return what is kept of a network."""
        ...

    def judge(self, network: RecurrentNetwork, result: TrainingResult) -> Verdict:
        """Judge a network on the test part."""
        ...


@dataclass(frozen=True)
class Places:
    """Where files come from and go to; no report and no log where theirs is None."""

    data: tuple[Path, ...]
    out: Path
    picture: Path
    report: Path | None = None
    tensorboard: Path | None = None

    def check(self) -> None:
        """Raise ExporterError where a result could not be written, before work is done for it."""
        from carousel_exporter.resuming import path_beside  # noqa: PLC0415 - torch takes seconds

        results = [("--out", self.out), ("--plot", self.picture)]
        results.append(("the progress of --out", path_beside(self.out)))
        results += [("--report", self.report)] if self.report is not None else []
        for place, (option, path) in enumerate(results):
            for other, earlier in results[:place]:
                if path.resolve() == earlier.resolve():
                    raise SettingsError(
                        f"{other} and {option} are both {path}: give each a file of its own."
                    )
            if path.resolve() in {each.resolve() for each in self.data}:
                raise SettingsError(f"{path} is the file of --data, and would be written over.")
            check_writable(path)
        if self.tensorboard is not None:
            self._check_log(self.tensorboard)

    @staticmethod
    def _check_log(folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise SettingsError(f"--tensorboard must name a folder, and {folder} is a file.")
        check_writable(folder / "events")


@dataclass(frozen=True)
class Run:
    """A task, how to train for it, and where things go.

    `options` are those of the task: where a run is resumed they must be the same too.
    """

    assignment: Assignment
    settings: TrainingSettings
    places: Places
    console: Console
    options: Mapping[str, Fact] = field(default_factory=dict)

    def go(self, *, resume: bool = False) -> None:
        """Train, judge and tell; raises typer.Exit after Ctrl-C."""
        from carousel_exporter import resuming  # noqa: PLC0415 - torch takes seconds to import
        from carousel_exporter.training import Trainer  # noqa: PLC0415 - as above

        trainer = Trainer(self.assignment.lesson, self.settings)
        if resume:
            resuming.load_progress(trainer, self._identity, self._progress)
        self._say(*self.assignment.introduction())
        if resume:
            self._say(_resumed(trainer))
        result, seconds = self._train(trainer)
        if result.best.epoch == 0:
            self._say("Interrupted before the first epoch was over: nothing was kept.")
            raise typer.Exit(INTERRUPTED)
        verdict = self.assignment.judge(result.best.network, result)
        self._save(result, verdict.facts)
        self._show(result, verdict, seconds)
        if result.interrupted:
            if self._progress.exists():
                self._say("the same command with --resume goes on from here")
            raise typer.Exit(INTERRUPTED)
        self._progress.unlink(missing_ok=True)

    def _train(self, trainer: Trainer) -> tuple[TrainingResult, float]:
        """Train with a progress bar, saving as it goes; return the seconds it took too."""
        from carousel_exporter.curves import Log  # noqa: PLC0415 - as above
        from carousel_exporter.resuming import save_progress  # noqa: PLC0415

        begin, saved = time.monotonic(), 0.0
        done = len(trainer.result.epochs)
        with (
            Log(self.places.tensorboard, after=done) as log,
            Progress(
                TextColumn("training"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[losses]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True, emoji=False),
            ) as progress,
        ):
            total = self.settings.epochs
            bar = progress.add_task("training", total=total, completed=done, losses="")

            def on_epoch(epoch: Epoch, result: TrainingResult) -> None:
                nonlocal saved
                losses = f"loss {epoch.train_loss:.3g}, validation {epoch.validation_loss:.3g}"
                losses += f", best {result.best.loss:.3g}"
                progress.update(bar, advance=1, losses=losses)
                log.write(epoch)
                if epoch.best:
                    self._save(result, {})
                now = time.monotonic()
                if now - saved >= SAVE_EVERY or saved == 0:
                    save_progress(trainer, self._identity, self._progress)
                    saved = now

            result = trainer.run(on_epoch)
        return result, time.monotonic() - begin

    @property
    def _progress(self) -> Path:
        from carousel_exporter.resuming import path_beside  # noqa: PLC0415 - as above

        return path_beside(self.places.out)

    @property
    def _identity(self) -> dict[str, Fact]:
        """What must be the same where a run is resumed; epochs may be more."""
        settings = dataclasses.asdict(self.settings)
        del settings["epochs"]
        return {**self.options, **self.assignment.facts, **settings}

    def _save(self, result: TrainingResult, more: Mapping[str, Fact]) -> None:
        from carousel_exporter import checkpoint  # noqa: PLC0415 - as above

        facts: dict[str, Fact] = {
            **self.assignment.facts,
            "best_epoch": result.best.epoch,
            "validation_loss": result.best.loss,
            **dataclasses.asdict(self.settings),
            **more,
        }
        checkpoint.save(self.assignment.checkpoint(result.best.network, facts), self.places.out)

    def _show(self, result: TrainingResult, verdict: Verdict, seconds: float) -> None:
        from carousel_exporter.plots import save_figure  # noqa: PLC0415 - as above

        ended = "interrupted after" if result.interrupted else "ended after"
        summary = (
            f"{ended} {len(result.epochs)} epochs and {seconds:.1f} s; the best was epoch "
            f"{result.best.epoch}, with a validation loss of {result.best.loss:.4f}"
        )
        self._say(summary)
        self.console.print(verdict.table)
        save_figure(verdict.figure, self.places.picture)
        self._say(f"checkpoint: {self.places.out}", f"picture:    {self.places.picture}")
        if self.places.report is not None:
            self._report(result, verdict, summary)

    def _report(self, result: TrainingResult, verdict: Verdict, summary: str) -> None:
        from carousel_exporter.report import write_report  # noqa: PLC0415 - as above

        assert self.places.report is not None
        write_report(
            self.places.report,
            title=f"Training of {self.places.out.name}",
            lines=[*self.assignment.introduction(), summary],
            table=verdict.table,
            figure=verdict.figure,
            epochs=result.epochs,
            settings={**self.assignment.facts, **dataclasses.asdict(self.settings)},
        )
        self._say(f"report:     {self.places.report}")

    def _say(self, *lines: str) -> None:
        for line in lines:
            self.console.print(escape(line), soft_wrap=True, highlight=False)


def _resumed(trainer: Trainer) -> str:
    done = len(trainer.result.epochs)
    left = ": there is nothing left to train" if trainer.is_over else ""
    return f"resumed after epoch {done}{left}"
