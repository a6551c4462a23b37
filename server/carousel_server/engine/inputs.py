"""Which rows hold inputs that must not reach a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.cohort import Cohort
from carousel_server.spec import ModelSpec, TensorSpec


def find_faults(cohort: Cohort, spec: ModelSpec) -> Iterator[tuple[int, str]]:
    """Yield the rows that can't be run, and why.

    A value that is not finite would spoil the session's state for ever; an integer out of range
    (a token beyond the vocabulary) would fail the run for all rows in it.
    """
    if not cohort.single and not cohort.lengths.all():
        for row in np.flatnonzero(cohort.lengths == 0).tolist():
            yield row, "the row has no steps; a chunk has at least one"
    for tensor in spec.inputs:
        values = cohort.inputs[tensor.name]
        fit = fits(values, tensor)
        if fit.all():
            continue
        wrong = ~fit.reshape(len(values), -1)  # (steps, elements)
        steps = np.flatnonzero(wrong.any(axis=1))
        rows = np.searchsorted(cohort.starts + cohort.lengths, steps, side="right")
        rows, first = np.unique(rows, return_index=True)
        for row, step in zip(rows.tolist(), steps[first].tolist(), strict=True):
            value = _shown(values.reshape(len(values), -1)[step][wrong[step]])
            where = f"step {step - int(cohort.starts[row])} of the row"
            yield row, f"input {tensor.name!r} is {value} at {where}; {_expected(tensor)}"


def fits(values: NDArray[Any], tensor: TensorSpec) -> NDArray[np.bool_]:
    """Return which of the values may reach a model."""
    if tensor.dtype.kind == "f":
        finite: NDArray[np.bool_] = np.isfinite(values)
        return finite
    if tensor.dtype.kind == "b":
        # A byte that is neither 0 nor 1 is no truth value.
        truths: NDArray[np.bool_] = values.view(np.uint8) <= 1
        return truths
    fit = np.ones(values.shape, np.bool_)
    if tensor.minimum is not None:
        fit &= values >= tensor.minimum
    if tensor.maximum is not None:
        fit &= values <= tensor.maximum
    return fit


def _shown(values: NDArray[Any]) -> Any:
    """Return the first of some values as it came."""
    return values.view(np.uint8)[0] if values.dtype.kind == "b" else values[0]


def _expected(tensor: TensorSpec) -> str:
    if tensor.dtype.kind == "f":
        return "a finite number was expected"
    if tensor.dtype.kind == "b":
        return "0 or 1 was expected"
    low = "any" if tensor.minimum is None else tensor.minimum
    high = "any" if tensor.maximum is None else tensor.maximum
    return f"{low} to {high} was expected"
