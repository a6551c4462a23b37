"""The file that an interrupted training run goes on from, and whether it is of the same run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from carousel_exporter.errors import CheckpointError, SettingsError
from carousel_exporter.filekinds import PROGRESS_KEY
from carousel_exporter.files import replacing
from carousel_exporter.tensorfile import check_sums, load_tensors_safely
from carousel_exporter.training import Trainer
from carousel_exporter.wording import counted

#: The version of the layout, under PROGRESS_KEY.
FORMAT: Final = 2

Identity = Mapping[str, str | int | float | bool]


def path_beside(out: Path) -> Path:
    """Return where the progress of a run lies whose checkpoint goes to `out`."""
    return out.with_name(f"{out.name}.resume")


def save_progress(trainer: Trainer, identity: Identity, path: Path) -> None:
    """Write all that the next epoch depends on; the file is there as a whole or not at all.

    `identity` is what must be the same where the run goes on: settings, and what data it is on.
    """
    content = {PROGRESS_KEY: FORMAT, "identity": dict(identity), "trainer": trainer.state()}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_progress(trainer: Trainer, identity: Identity, path: Path) -> None:
    """Have a trainer go on from a file that `save_progress` wrote.

    Raises CheckpointError where the file is none, SettingsError where it is of another run.
    """
    if not path.exists():
        raise CheckpointError(
            f"There is no {path} to resume from: an interrupted run leaves it, one that came to "
            "its end does not."
        )
    content = load_tensors_safely(path)
    _check_format(content, path)
    check_sums(path)
    _check_same(content["identity"], identity, path)
    try:
        trainer.restore(content["trainer"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged: the weights and the optimiser's state of this network were "
            "expected, and it holds others: begin without --resume."
        ) from error
    _check_left(trainer, path)


def _check_format(content: dict[Any, Any], path: Path) -> None:
    found = content.get(PROGRESS_KEY)
    if found is None or not isinstance(content.get("identity"), dict):
        raise CheckpointError(
            f"{path} is not what an interrupted `carousel-export train` leaves: begin without "
            "--resume."
        )
    if found != FORMAT:
        raise CheckpointError(
            f"{path} has format {found!r}, and this version resumes format {FORMAT}: use the "
            "version of carousel-export that wrote it, or begin without --resume."
        )


def _check_left(trainer: Trainer, path: Path) -> None:
    """Raise SettingsError where more epochs are done than were asked for."""
    done, wanted = len(trainer.result.epochs), trainer.settings.epochs
    if done > wanted:
        raise SettingsError(
            f"There is nothing left to train: {path} has {counted(done, 'epoch')} done, and "
            f"--epochs is {wanted}; ask for more than {done} to go on, or for {done} to end the "
            "run with what it has."
        )


def _check_same(before: dict[str, Any], now: Identity, path: Path) -> None:
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            raise SettingsError(
                f"{path} is of a run with {name.replace('_', ' ')} {_shown(before.get(name))}, and "
                f"this one has {_shown(now.get(name))}: resume with the same, or begin without "
                "--resume."
            )


def _shown(value: object) -> str:
    return "none" if value in {None, ""} else str(value)
