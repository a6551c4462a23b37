"""The file that an interrupted training run goes on from, and whether it is of the same run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from carousel_exporter.checkpoint import load_tensors_safely
from carousel_exporter.errors import CheckpointError, SettingsError
from carousel_exporter.files import replacing
from carousel_exporter.training import Trainer
from carousel_exporter.wording import first_line

#: Key that marks these files; its value is the version of their layout.
FORMAT_KEY: Final = "carousel_training"
FORMAT: Final = 1

Identity = Mapping[str, str | int | float | bool]


def path_beside(out: Path) -> Path:
    """Return where the progress of a run lies whose checkpoint goes to `out`."""
    return out.with_name(f"{out.name}.resume")


def save_progress(trainer: Trainer, identity: Identity, path: Path) -> None:
    """Write all that the next epoch depends on; the file is there as a whole or not at all.

    `identity` is what must be the same where the run goes on: settings, and what data it is on.
    """
    content = {FORMAT_KEY: FORMAT, "identity": dict(identity), "trainer": trainer.state()}
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
    if content.get(FORMAT_KEY) != FORMAT:
        raise CheckpointError(f"{path} is not what an interrupted `carousel-export train` leaves.")
    _check_same(content.get("identity", {}), identity, path)
    try:
        trainer.restore(content["trainer"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {first_line(error)}.") from error


def _check_same(before: dict[str, Any], now: Identity, path: Path) -> None:
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            raise SettingsError(
                f"{path} is of a run with {name} {_shown(before.get(name))}, and this one has "
                f"{_shown(now.get(name))}: resume with the same, or begin without --resume."
            )


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
