"""Where a model file comes from: our own checkpoint, or a network made by others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from carousel_exporter import checkpoint, foreign, recognition
from carousel_exporter.checkpoint import Checkpoint
from carousel_exporter.errors import CheckpointError, SettingsError
from carousel_exporter.filekinds import CHECKPOINT_KEY, PROGRESS_KEY
from carousel_exporter.manifest import TensorStatistics
from carousel_exporter.network import RecurrentNetwork
from carousel_exporter.wording import counted


@dataclass(frozen=True)
class Source:
    """A network and what its model file is to say of it.

    `columns` are what the inputs are, F of them or none known; `answers` likewise, O. `symbols` are
    what token ids stand for. `task` is what the network is for, as in a checkpoint, and empty where
    nobody said. `statistics` tell what usual values of `x` and `y` look like. `provenance` is for
    people.
    """

    network: RecurrentNetwork
    columns: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    unit: str = ""
    horizon: int = 0
    statistics: dict[str, TensorStatistics] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    symbols: tuple[str, ...] = ()
    task: str = ""


@dataclass(frozen=True)
class Scaling:
    """Normalisation that a network made by others was trained with; an empty one is none.

    The network sees (x - mean) / scale, and the answer is its own times `output_scale` plus
    `output_mean`.
    """

    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    output_mean: tuple[float, ...] = ()
    output_scale: tuple[float, ...] = ()


def use_one_thread() -> None:
    """Have PyTorch run on one thread: more only wait for each other on so small networks.

    Where another program keeps a core busy, they wait a hundred times longer than they compute.
    """
    torch.set_num_threads(1)


def read_source(
    path: Path,
    renames: Sequence[str] = (),
    scaling: Scaling | None = None,
    *,
    nonlinearity: str | None = None,
) -> Source:
    """Read a checkpoint of ours or a network made by others, whichever the file holds.

    `renames` are OLD=NEW pairs, `scaling` the normalisation and `nonlinearity` what a plain RNN
    squashes with, for the latter only. Raises CheckpointError, SettingsError.
    """
    tensors = foreign.read_tensors(path)
    origin = {"weights": path.name, "weights_sha256": sha256(path), "torch": torch.__version__}
    if CHECKPOINT_KEY in tensors:
        if renames or scaling or nonlinearity:
            raise SettingsError(
                f"{path} is a checkpoint of carousel-export: it needs no --map, no scaling and no "
                "--nonlinearity."
            )
        return _own_source(checkpoint.parse(tensors, path), origin)
    if PROGRESS_KEY in tensors:
        raise CheckpointError(
            f"{path} is what an interrupted `carousel-export train` goes on from: finish the run "
            "with --resume, or take its checkpoint, which has the best network so far."
        )
    tensors = foreign.rename(foreign.unwrap(tensors), foreign.parse_renames(renames))
    network = recognition.recognise(tensors, nonlinearity)
    statistics = _rescale(network, scaling) if scaling else {}
    return Source(network, statistics=statistics, provenance=origin)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_source(own: Checkpoint, origin: dict[str, str]) -> Source:
    return Source(
        network=own.network,
        columns=own.features,
        answers=own.targets,
        unit=own.unit,
        horizon=own.horizon,
        statistics=_usual(own),
        provenance=origin | {name: str(value) for name, value in own.facts.items()},
        symbols=own.symbols,
        task=own.task,
    )


def _usual(own: Checkpoint) -> dict[str, TensorStatistics]:
    """Tell what usual values of a checkpoint's inputs and answers look like."""
    network = own.network
    if network.architecture.vocabulary:
        return {}
    usual: TensorStatistics = {
        "mean": own.levels.mean.tolist(),
        "scale": own.levels.scale.tolist(),
    }
    if network.architecture.log_probabilities:
        return {"x": usual}
    if network.architecture.targets is not None:
        usual["change_mean"] = network.input_mean.tolist()
        usual["change_scale"] = network.input_scale.tolist()
    return {"x": usual, "y": {"scale": network.output_scale.tolist()}}


def _rescale(network: RecurrentNetwork, scaling: Scaling) -> dict[str, TensorStatistics]:
    """Put a scaling into the network's buffers, and return what it says of usual values."""
    a = network.architecture
    if a.vocabulary and (scaling.mean or scaling.scale):
        raise SettingsError(
            "--mean and --scale are for inputs of numbers, and this network takes token ids."
        )
    for name in ("mean", "scale", "output_mean", "output_scale"):
        values: tuple[float, ...] = getattr(scaling, name)
        buffer: torch.Tensor = getattr(network, name if "_" in name else f"input_{name}")
        if values and len(values) != len(buffer):
            raise SettingsError(
                f"--{name.replace('_', '-')} must give {counted(len(buffer), 'number')}, one a "
                f"column, not {len(values)}."
            )
        if "scale" in name and 0.0 in values:
            raise SettingsError(f"--{name.replace('_', '-')} must not hold a 0.")
        if values:
            buffer.copy_(torch.tensor(values))
    usual: dict[str, TensorStatistics] = {}
    if not a.vocabulary:
        scale = network.input_scale.abs().tolist()
        usual["x"] = {"mean": network.input_mean.tolist(), "scale": scale}
    scales = torch.split(network.output_scale.abs(), list(a.parts.values()))
    return usual | {
        name: {"scale": part.tolist()} for name, part in zip(a.parts, scales, strict=True)
    }
