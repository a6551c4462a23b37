"""What users pass and get: arrays of one step or of several, for one session or for a group.

Inside the client everything is flat: the steps of all rows laid end to end, `(S, *step)`, with S
the sum of the rows' lengths. A text is a chunk of its symbols, answered with named classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from carousel_client import _texts
from carousel_client._columns import ONE_STEP, Array, Ints
from carousel_client._errors import InvalidInput
from carousel_client._kinds import came
from carousel_client._models import ModelInfo, TensorInfo

#: How answers are shaped: one step a row `(N, *step)`, equal chunks `(N, T, *step)`, or a list;
#: those to text are chunks, or lists of them, that know their classes' names.
Form = Literal["step", "chunk", "ragged", "text"]


@dataclass(slots=True)
class Chunks:
    """The inputs of some rows: each `(S, *step)`, and the rows' lengths, `(N,)`."""

    inputs: dict[str, Array]
    lengths: Ints
    form: Form


def one_session(model: ModelInfo, x: Any) -> Chunks:
    """Return the chunk of one session: each input `[*step]` or `[T, *step]`, or a text.

    Raises InvalidInput.
    """
    if type(x) is np.ndarray and len(model.inputs) == 1:  # most calls: worth the microseconds
        spec = model.inputs[0]
        if x.shape == spec.shape and x.dtype == spec.dtype and x.flags.c_contiguous:
            return Chunks({spec.name: x[np.newaxis]}, ONE_STEP, "step")
    if isinstance(x, str):
        ids = _texts.encode(model, x)
        return Chunks({model.inputs[0].name: ids}, np.array([len(ids)], np.int64), "text")
    flat: dict[str, Array] = {}
    form: Form | None = None
    steps = 0
    for spec, value in _by_name(model.inputs, x):
        array = cast(spec, value)
        if array.shape == spec.shape:
            array, this = array[np.newaxis], "step"
        elif array.ndim == len(spec.shape) + 1 and array.shape[1:] == spec.shape:
            this = "chunk"
        else:
            raise InvalidInput(
                f"input {spec.name!r} of {model.name!r} takes {_dims(spec.shape)} for one step or "
                f"{_dims('T', *spec.shape)} for T steps, but got {_dims(array.shape)}"
            )
        if form is not None and (form, steps) != (this, len(array)):
            raise InvalidInput(
                f"all inputs of {model.name!r} must have as many steps, but {spec.name!r} has "
                f"{len(array)} where another has {steps}"
            )
        form, steps = "step" if this == "step" else "chunk", len(array)
        flat[spec.name] = array
    return Chunks(flat, np.array([steps], np.int64), form or "step")


def many_sessions(model: ModelInfo, x: Any, rows: int) -> Chunks:
    """Return the chunks of N sessions: each input `[N, *step]`, `[N, T, *step]` or ragged.

    Ragged is a list (or tuple) of N arrays `[T_i, *step]`, or of N texts; T_i may be 0.
    Raises InvalidInput.
    """
    if _texts.is_texts(x):
        each = _texts.encode_each(model, x, rows)
        lengths = np.array([len(ids) for ids in each], np.int64)
        return Chunks({model.inputs[0].name: np.concatenate(each)}, lengths, "text")
    found: Chunks | None = None
    for spec, value in _by_name(model.inputs, x):
        chunks = _group_input(model, spec, value, rows)
        if found is None:
            found = chunks
            continue
        if chunks.form != found.form or not np.array_equal(chunks.lengths, found.lengths):
            raise InvalidInput(
                f"all inputs of {model.name!r} must have as many steps in each row, but "
                f"{spec.name!r} differs from those before it"
            )
        found.inputs.update(chunks.inputs)
    if found is None:
        raise InvalidInput(f"model {model.name!r} has no inputs")
    return found


def initial_states(model: ModelInfo, states: Mapping[str, Any], rows: int) -> dict[str, Array]:
    """Return states to begin with, each `(N, *state)`.

    Raises InvalidInput.
    """
    specs = {spec.name: spec for spec in model.states}
    unknown = set(states) - set(specs)
    if unknown:
        raise InvalidInput(
            f"model {model.name!r} has the states {_names(specs)}, but got {_names(unknown)}"
        )
    arrays = {name: cast(specs[name], value) for name, value in states.items()}
    for name, array in arrays.items():
        if array.shape != (rows, *specs[name].shape):
            raise InvalidInput(
                f"state {name!r} of {rows} sessions is {_dims(rows, *specs[name].shape)}, but got "
                f"{_dims(array.shape)}"
            )
    return arrays


def answers(
    model: ModelInfo, outputs: Mapping[str, Array], lengths: Ints, form: Form, *, grouped: bool
) -> Any:
    """Return flat outputs `(S, *step)` in the form that the inputs had.

    An array for a model with one output, a dict of arrays for one with several.
    """
    if not grouped and len(model.outputs) == 1:  # most calls
        flat = outputs[model.outputs[0].name]
        if form == "step":
            return flat.reshape(flat.shape[1:])
        return flat if form == "chunk" else meant(model.outputs[0], flat, form)

    def shaped(spec: TensorInfo) -> Any:
        flat = outputs[spec.name]
        step = flat.shape[1:]
        if not grouped:
            return flat.reshape(step) if form == "step" else meant(spec, flat, form)
        if form == "step":
            return flat
        if form == "chunk":
            return flat.reshape(len(lengths), int(lengths[0]) if len(lengths) else 0, *step)
        rows = np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else []
        return [meant(spec, row, form) for row in rows] if form == "text" else rows

    return by_output(model, shaped)


def by_output(model: ModelInfo, get: Callable[[TensorInfo], Any]) -> Any:
    """Return get(spec) for the model's output, or a dict of them where it has several."""
    if len(model.outputs) == 1:
        return get(model.outputs[0])
    return {spec.name: get(spec) for spec in model.outputs}


def meant(spec: TensorInfo, steps: Array, form: Form) -> Any:
    """Return an output's answers `(T, *step)` as what answers in this form are."""
    return _texts.read(spec, steps) if form == "text" else steps


def cast(spec: TensorInfo, value: Any) -> Array:
    """Return `value` as a C-ordered array of the declared element type.

    Floats may lose precision (float64 to float32) and integers may become floats or other
    integers that hold them; a float never becomes an integer, and a finite one never becomes
    infinite. Raises InvalidInput.
    """
    if type(value) is np.ndarray and value.dtype == spec.dtype and value.flags.c_contiguous:
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidInput(f"input {spec.name!r} is not an array: {error}") from None
    if array.dtype != spec.dtype:
        _check_cast(spec, array)
        array = _converted(spec, array)
    return np.asarray(array, order="C")


def _converted(spec: TensorInfo, array: Array) -> Array:
    try:
        with np.errstate(over="raise"):
            return array.astype(spec.dtype)
    except FloatingPointError:
        with np.errstate(over="ignore"):
            beyond = np.isfinite(array) & np.isinf(array.astype(spec.dtype))
        kind = spec.dtype.name
        raise InvalidInput(
            f"input {spec.name!r}: {array[beyond].flat[0]:g} is beyond {kind}, which ends at "
            f"{np.finfo(kind).max:.2e}; scale the values, or leave it out"
        ) from None


def _check_cast(spec: TensorInfo, array: Array) -> None:
    if array.size == 0:
        return
    have, want = array.dtype, spec.dtype
    if have.kind == "b" and spec.symbols:  # numpy takes True for 1
        raise InvalidInput(
            f"input {spec.name!r} takes symbols' numbers, {want.name}, or text, but got bool"
        )
    if have.kind in "iu" and want.kind in "iu":
        info = np.iinfo(want.name)
        low, high = int(array.min()), int(array.max())
        if low < info.min or high > info.max:
            raise InvalidInput(
                f"input {spec.name!r} takes {want.name}, {info.min} to {info.max}, but got values "
                f"from {low} to {high}"
            )
    elif have.kind in "US":
        raise InvalidInput(
            f"input {spec.name!r} takes {want.name}, but got an array of strings, which doesn't "
            "convert; text is one string for a session, and a list of them for a group"
        )
    elif have.kind == "O":
        raise InvalidInput(
            f"input {spec.name!r} takes {want.name}, but got {came(array[()])}: expected numbers"
        )
    elif have.kind not in "fiub" or not np.can_cast(have, want, "same_kind"):
        raise InvalidInput(
            f"input {spec.name!r} takes {want.name}, but got {have.name}, which doesn't convert "
            f"safely; convert it yourself if that is what you mean"
        )


def _group_input(model: ModelInfo, spec: TensorInfo, value: Any, rows: int) -> Chunks:
    if isinstance(value, list | tuple):
        ragged = _ragged(model, spec, value, rows)
        if ragged is not None:
            return ragged
    array = cast(spec, value)
    if array.shape == (rows, *spec.shape):
        return Chunks({spec.name: array}, np.ones(rows, np.int64), "step")
    steps = array.shape[1] if array.ndim == len(spec.shape) + 2 else 0
    if array.shape != (rows, steps, *spec.shape):
        raise InvalidInput(
            f"input {spec.name!r} of {rows} sessions takes {_dims(rows, *spec.shape)} for one step "
            f"each, {_dims(rows, 'T', *spec.shape)} for T steps each, or a list of {rows} arrays "
            f"{_dims('T', *spec.shape)}, but got {_dims(array.shape)}"
        )
    flat = array.reshape(rows * steps, *spec.shape)
    return Chunks({spec.name: flat}, np.full(rows, steps, np.int64), "chunk")


def _ragged(model: ModelInfo, spec: TensorInfo, value: Sequence[Any], rows: int) -> Chunks | None:
    """Return the chunks, or None where the members are single steps."""
    arrays = [cast(spec, member) for member in value]
    if all(array.shape == spec.shape for array in arrays):
        return None
    if len(arrays) != rows:
        raise InvalidInput(
            f"input {spec.name!r} needs one array for each of {rows} sessions, but got "
            f"{len(arrays)}"
        )
    for row, array in enumerate(arrays):
        empty = array.size == 0 and array.ndim == 1
        if not empty and (array.ndim != len(spec.shape) + 1 or array.shape[1:] != spec.shape):
            raise InvalidInput(
                f"input {spec.name!r} of {model.name!r} takes {_dims('T', *spec.shape)} a row, but "
                f"row {row} is {_dims(array.shape)}"
            )
    flat = np.concatenate([array.reshape(len(array), *spec.shape) for array in arrays])
    lengths = np.array([len(array) for array in arrays], np.int64)
    return Chunks({spec.name: flat}, lengths, "ragged")


def _by_name(specs: Sequence[TensorInfo], x: Any) -> list[tuple[TensorInfo, Any]]:
    if isinstance(x, Mapping):
        given = set(x)
        if given != {spec.name for spec in specs}:
            raise InvalidInput(
                f"expected the inputs {_names(spec.name for spec in specs)}, but got "
                f"{_names(given)}"
            )
        return [(spec, x[spec.name]) for spec in specs]
    if len(specs) != 1:
        raise InvalidInput(
            f"the model has {len(specs)} inputs: pass a dict with "
            f"{_names(spec.name for spec in specs)}"
        )
    return [(specs[0], x)]


def _dims(*shape: Any) -> str:
    flat = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
    return "[" + ", ".join(str(size) for size in flat) + "]"


def _names(names: Any) -> str:
    return ", ".join(sorted(map(repr, names))) or "none"
