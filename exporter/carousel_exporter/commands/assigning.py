"""What there is to train for: the tasks, their defaults, and the data of each read for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carousel_exporter.errors import SettingsError

if TYPE_CHECKING:
    from carousel_exporter.checkpoint import Fact
    from carousel_exporter.commands.run import Assignment

#: What an option is where it isn't given, by task.
DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "forecast": {
        "window": 64, "batch": 8, "hidden": 64, "epochs": 300, "patience": 40,
        "learning_rate": 3e-3, "validation": 0.15, "test": 0.15, "out": "forecaster.pt",
    },
    "classify": {
        "window": 256, "batch": 16, "hidden": 64, "epochs": 200, "patience": 30,
        "learning_rate": 3e-3, "validation": 0.15, "test": 0.15, "out": "classifier.pt",
    },
    "text": {
        "window": 128, "batch": 32, "hidden": 256, "epochs": 30, "patience": 5,
        "learning_rate": 2e-3, "validation": 0.1, "test": 0.1, "out": "text.pt",
    },
}  # fmt: skip
#: The tasks that an option is for, where it isn't for all.
ONLY_FOR: Final[dict[str, tuple[str, ...]]] = {
    "target": ("forecast",),
    "horizon": ("forecast",),
    "season": ("forecast",),
    "changes": ("forecast",),
    "unit": ("forecast",),
    "features": ("forecast", "classify"),
    "sequence": ("classify",),
    "label": ("classify",),
    "test-data": ("classify",),
    "class-weights": ("classify",),
    "label-smoothing": ("classify", "text"),
}


@dataclass(frozen=True)
class Data:
    """What to train on, and what for: the options that are not the same for every task."""

    path: Path
    target: tuple[str, ...]
    features: tuple[str, ...]
    horizon: int
    season: int | None
    changes: bool | None
    unit: str
    sequence: str
    label: str
    test_data: Path | None
    class_weights: str
    validation: float
    test: float

    def identity(self) -> dict[str, Fact]:
        """Return what makes another network, or another checkpoint; the same in a resumed run.

        Files are known by their content; a season adds a line to a table and no more.
        """
        given = {name: getattr(self, name) for name in _IDENTITY}
        return {
            name: ",".join(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value is not None
        }


_IDENTITY: Final = (
    "target", "features", "horizon", "changes", "unit", "sequence", "label", "validation", "test",
)  # fmt: skip


def assign(task: str, given: Data, window: int) -> Assignment:
    """Read the data of a task. Raises ExporterError where they can't be used."""
    make = {"forecast": _forecasting, "classify": _labelling, "text": _writing}[task]
    return make(given, window)


def check_task(task: str, given: dict[str, Any]) -> None:
    """Raise SettingsError where there is no such task, or an option is for another."""
    if task not in DEFAULTS:
        raise SettingsError(f"--task is {' or '.join(DEFAULTS)}, not {task!r}.")
    for option, tasks in ONLY_FOR.items():
        if task not in tasks and given[option.replace("-", "_")] is not None:
            raise SettingsError(
                f"--{option} is for --task {' or '.join(tasks)}, and this is {task}: leave it out."
            )


def _forecasting(given: Data, window: int) -> Assignment:  # noqa: ARG001 - only texts ask
    from carousel_exporter.commands.forecast import Forecasting  # noqa: PLC0415 - torch
    from carousel_exporter.data import read_series  # noqa: PLC0415
    from carousel_exporter.forecast_evaluation import check_season  # noqa: PLC0415
    from carousel_exporter.forecast_task import make_forecast_task  # noqa: PLC0415

    if not given.target:
        raise SettingsError("--target must name a column to forecast.")
    wanted = (*given.features, *given.target) if given.features else ()
    series = read_series(given.path, wanted)
    task = make_forecast_task(
        series,
        targets=given.target,
        features=given.features,
        horizon=given.horizon,
        in_changes=given.changes,
        validation=given.validation,
        test=given.test,
    )
    if given.season is not None:
        check_season(task, given.season)
    return Forecasting(given.path, series, task, given.season, given.unit)


def _labelling(given: Data, window: int) -> Assignment:  # noqa: ARG001 - as above
    from carousel_exporter.commands.classify import Labelling  # noqa: PLC0415 - torch
    from carousel_exporter.labelling import make_label_task  # noqa: PLC0415
    from carousel_exporter.sequences import read_sequences  # noqa: PLC0415

    _check_ts(given)
    read = partial(read_sequences, sequence=given.sequence, label=given.label)
    sequences = read(given.path, features=given.features)
    test = read(given.test_data, like=sequences) if given.test_data is not None else None
    task = make_label_task(
        sequences,
        test,
        validation=given.validation,
        test_fraction=given.test,
        class_weights=given.class_weights,
    )
    return Labelling(given.path, given.test_data, task)


def _check_ts(given: Data) -> None:
    """Raise SettingsError where options are for columns that a `.ts` file has not."""
    options = {
        "--sequence": given.sequence,
        "--label": given.label,
        "--features": given.features,
    }
    unfit = next((option for option, value in options.items() if value), None)
    if given.path.suffix == ".ts" and unfit is not None:
        raise SettingsError(
            f"{unfit} names a column of a CSV file, and {given.path} is a .ts file, which says "
            "itself where its sequences and labels are: leave it out."
        )


def _writing(given: Data, window: int) -> Assignment:
    from carousel_exporter.commands.text import Writing  # noqa: PLC0415 - torch
    from carousel_exporter.corpus import make_corpus, read_text  # noqa: PLC0415

    corpus = make_corpus(read_text(given.path), validation=given.validation, test=given.test)
    return Writing(given.path, corpus, window)
