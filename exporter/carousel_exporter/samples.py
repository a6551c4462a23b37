"""Inputs to try a model file with: random ones in a sensible range, or pieces of a real series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from carousel.v1.manifest_pb2 import ModelManifest, TensorSpec
from carousel.wire import NUMPY_DTYPES
from carousel_exporter.corpus import encode, read_text
from carousel_exporter.data import Series, read_series
from carousel_exporter.errors import ModelFileError, SettingsError
from carousel_exporter.manifest import TensorStatistics
from carousel_exporter.sequences import read_sequences
from carousel_exporter.wording import counted
from carousel_exporter.wording import steps as worded

#: Where an integer input has no bound of its own.
DEFAULT_RANGE: Final = (0, 15)
#: What padding holds, far from any value that a sensible input has, yet finite in half precision.
FAR: Final = 1e4


def random_rows(
    manifest: ModelManifest,
    statistics: Mapping[str, TensorStatistics],
    *,
    rows: int,
    steps: int,
    rng: np.random.Generator,
) -> list[dict[str, np.ndarray]]:
    """Draw inputs for `rows` sessions of `steps` steps: each input (T, …), in its own dtype.

    Integers lie between the declared bounds. Floats are normal with the mean and scale noted in
    the file, a walk where those of changes are noted too, and standard normal otherwise.
    """
    return [
        {
            spec.name: _draw(spec, statistics.get(spec.name, {}), steps, rng)
            for spec in manifest.inputs
        }
        for _ in range(rows)
    ]


def real_rows(
    path: Path, manifest: ModelManifest, *, rows: int, steps: int, rng: np.random.Generator
) -> list[dict[str, np.ndarray]]:
    """Cut inputs for `rows` sessions of `steps` steps out of a file, at random places.

    A CSV file's columns are found by the names in the manifest, those of a `.ts` file in order; for
    an input that stands for characters the file is a text. Raises SettingsError where the manifest
    names no columns, or the file is too short.
    """
    if len(manifest.inputs) == 1 and manifest.inputs[0].symbols:
        (spec,) = manifest.inputs
        whole = encode(read_text(path), spec.symbols)
        starts = _starts(path, len(whole), rows, steps, rng)
        return [{spec.name: whole[s : s + steps]} for s in starts]
    names = [name for spec in manifest.inputs for name in spec.columns]
    unnamed = [spec.name for spec in manifest.inputs if list(spec.shape) != [len(spec.columns)]]
    if unnamed:
        raise SettingsError(
            f"--data needs the columns of input {unnamed[0]!r}, and the manifest names none: leave "
            "--data out, or convert again with --columns."
        )
    series = series_of_ts(path, names) if path.suffix == ".ts" else read_series(path, names)
    starts = _starts(path, len(series.values), rows, steps, rng)
    return [
        {
            spec.name: series.select(spec.columns)[s : s + steps].astype(NUMPY_DTYPES[spec.dtype])
            for spec in manifest.inputs
        }
        for s in starts
    ]


def _starts(path: Path, length: int, rows: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    if length < steps:
        raise SettingsError(f"{path} has {worded(length)}, and {steps} are needed.")
    return rng.integers(0, length - steps + 1, rows)


def series_of_ts(path: Path, names: list[str]) -> Series:
    """Return the sequences of a `.ts` file laid end to end, as columns of these names."""
    sequences = read_sequences(path)
    if len(names) != len(sequences.columns):
        raise SettingsError(
            f"{path} has {counted(len(sequences.columns), 'dimension')}, and the model takes "
            f"{counted(len(names), 'column')}."
        )
    return Series(tuple(names), np.concatenate(sequences.values), (), 0, {})


def filler(spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array for padding: allowed values, but none that could pass unnoticed."""
    dtype = np.dtype(NUMPY_DTYPES[spec.dtype])
    if dtype.kind == "f":
        return np.full(shape, FAR, dtype)
    if dtype.kind == "b":
        return np.ones(shape, dtype)
    return np.full(shape, _bounds(spec, dtype)[1], dtype)


def _draw(
    spec: TensorSpec, usual: TensorStatistics, steps: int, rng: np.random.Generator
) -> np.ndarray:
    dtype = np.dtype(NUMPY_DTYPES[spec.dtype])
    shape = (steps, *spec.shape)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if dtype.kind != "f":
        low, high = _bounds(spec, dtype)
        return rng.integers(low, high, shape, endpoint=True, dtype=dtype.newbyteorder("="))
    values = rng.normal(usual.get("mean", 0.0), usual.get("scale", 1.0), shape)
    if "change_scale" in usual:
        walk = rng.normal(usual["change_mean"], usual["change_scale"], shape).cumsum(axis=0)
        values = values[0] + walk
    return values.astype(dtype)


def _bounds(spec: TensorSpec, dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """Return the least and the greatest value of an integer input."""
    limits = np.iinfo(dtype.str)
    low = spec.minimum if spec.HasField("minimum") else max(limits.min, DEFAULT_RANGE[0])
    high = (
        spec.maximum
        if spec.HasField("maximum")
        else min(limits.max, max(low, 0) + DEFAULT_RANGE[1])
    )
    if not limits.min <= low <= high <= limits.max:
        raise ModelFileError(
            f"Input {spec.name!r} declares values from {low} to {high}, which {dtype} can't hold."
        )
    return low, high
