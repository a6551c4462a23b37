"""The plain file that training leaves: the network, and all that is needed to serve it.

It holds tensors, numbers, strings, lists and dictionaries only, so that it can be read without
running any code that came with it (`torch.load(weights_only=True)`).
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from carousel_exporter.data import Split, Statistics
from carousel_exporter.errors import CheckpointError
from carousel_exporter.filekinds import CHECKPOINT_KEY
from carousel_exporter.files import replacing
from carousel_exporter.network import Architecture, RecurrentNetwork
from carousel_exporter.tensorfile import check_sums, load_tensors_safely

#: The version of the layout, under CHECKPOINT_KEY.
FORMAT: Final = 2
#: Older layouts that can be read: format 1 knew forecasters alone.
READABLE: Final = (1, FORMAT)

#: What a network can be for.
FORECAST: Final = "forecast"
CLASSIFY: Final = "classify"
TEXT: Final = "text"

Fact = str | int | float


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what it is for.

    `features` are what the inputs are, F names, and `targets` what the answers are, O names:
    columns of a forecast, classes, or the characters of a text. `symbols` are the characters that
    token ids stand for, and empty where inputs are numbers. `levels` are the statistics of the
    inputs in plain units, (F,) or (0,). `split` says at which steps, sequences or characters the
    parts of the data end. `facts` tell how the network came to be, for people.
    """

    network: RecurrentNetwork
    features: tuple[str, ...]
    targets: tuple[str, ...]
    horizon: int
    unit: str
    levels: Statistics
    split: Split
    facts: dict[str, Fact]
    task: str = FORECAST
    symbols: tuple[str, ...] = ()


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; the file is there as a whole or not at all."""
    content = {
        CHECKPOINT_KEY: FORMAT,
        "architecture": dataclasses.asdict(checkpoint.network.architecture),
        "features": list(checkpoint.features),
        "targets": list(checkpoint.targets),
        "horizon": checkpoint.horizon,
        "unit": checkpoint.unit,
        "levels": {
            "mean": checkpoint.levels.mean.tolist(),
            "scale": checkpoint.levels.scale.tolist(),
        },
        "split": dataclasses.asdict(checkpoint.split),
        "facts": dict(checkpoint.facts),
        "task": checkpoint.task,
        "symbols": list(checkpoint.symbols),
        "state_dict": checkpoint.network.state_dict(),
    }
    # Through memory: torch.save would put the temporary file's name inside, and the same network
    # would not make the same file.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load(path: Path) -> Checkpoint:
    """Read a checkpoint that `save` wrote. Raises CheckpointError where the file is none."""
    content = load_tensors_safely(path)
    if CHECKPOINT_KEY not in content:
        raise CheckpointError(f"{path} is not a checkpoint that `carousel-export train` wrote.")
    return parse(content, path)


def load_network(path: Path) -> RecurrentNetwork:
    """Read a checkpoint's network, in evaluation mode: plain units in, plain units out."""
    return load(path).network


def parse(content: dict[str, Any], path: Path) -> Checkpoint:
    """Make a checkpoint of a file's content. Raises CheckpointError naming what doesn't fit."""
    found = content[CHECKPOINT_KEY]
    if found not in READABLE:
        raise CheckpointError(
            f"{path} has checkpoint format {found!r}, and this version reads formats 1 to "
            f"{FORMAT}: use the version of carousel-export that wrote it."
        )
    check_sums(path)
    try:
        return _parse(content)
    except KeyError as error:
        raise CheckpointError(
            f"{path} is damaged: a checkpoint has {error}, and this one hasn't."
        ) from error
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is damaged: a checkpoint of carousel-export has an architecture and the "
            "weights that fit it, and the two of this one don't fit together."
        ) from error


def _parse(content: dict[str, Any]) -> Checkpoint:
    sizes = dict(content["architecture"])
    if sizes["targets"] is not None:
        sizes["targets"] = tuple(sizes["targets"])
    network = RecurrentNetwork(Architecture(**sizes))
    network.load_state_dict(content["state_dict"])
    return Checkpoint(
        network=network.eval(),
        features=tuple(content["features"]),
        targets=tuple(content["targets"]),
        horizon=content["horizon"],
        unit=content["unit"],
        levels=Statistics(*(np.array(content["levels"][key]) for key in ("mean", "scale"))),
        split=Split(**content["split"]),
        facts=content["facts"],
        task=content.get("task", FORECAST),
        symbols=tuple(content.get("symbols", ())),
    )
