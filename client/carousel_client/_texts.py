"""Strings for models that take text: what they become, and what comes back for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from carousel_client._classes import Classes
from carousel_client._columns import Array
from carousel_client._errors import InvalidInput
from carousel_client._kinds import check_text
from carousel_client._vocabulary import Vocabulary

if TYPE_CHECKING:
    from carousel_client._models import ModelInfo, TensorInfo


def is_texts(x: Any) -> bool:
    """Whether a group's input is meant as text: a string, or a list that begins with one."""
    return isinstance(x, str) or (
        isinstance(x, list | tuple) and len(x) > 0 and isinstance(x[0], str)
    )


def vocabulary(model: ModelInfo) -> tuple[TensorInfo, Vocabulary]:
    """Return the input that takes a model's text, and its symbols.

    Raises InvalidInput for a model that takes none.
    """
    if model.vocabulary is None:
        takes = ", ".join(f"{i.name!r} {i.dtype.name} {list(i.shape)}" for i in model.inputs)
        raise InvalidInput(
            f"model {model.name!r} has no vocabulary, so it takes no text, but numbers: {takes}"
        )
    return model.inputs[0], model.vocabulary


def encode(model: ModelInfo, text: str) -> Array:
    """Return a text as the model's input, (T,). Raises InvalidInput; also for an empty text."""
    check_text(text, "the text")
    if text == "":
        raise InvalidInput("the text is empty: a step takes at least one symbol")
    spec, known = vocabulary(model)
    return np.array(known.encode(text), spec.dtype)


def encode_each(model: ModelInfo, texts: Any, rows: int) -> list[Array]:
    """Return a group's texts as the model's input, (T_i,) for each of its N sessions.

    An empty one stands for no steps. Raises InvalidInput.
    """
    spec, known = vocabulary(model)
    if isinstance(texts, str):
        raise InvalidInput(f"expected a list of {rows} strings, one a session, but got one string")
    if len(texts) != rows:
        raise InvalidInput(f"expected a list of {rows} strings, but got {len(texts)}")
    return [np.array(_row(known, row, text), spec.dtype) for row, text in enumerate(texts)]


def _row(known: Vocabulary, row: int, text: Any) -> Sequence[int]:
    if not isinstance(text, str):
        kind = type(text).__name__
        raise InvalidInput(f"row {row}: expected a string, as in the first row, but got {kind}")
    try:
        return known.encode(text)
    except InvalidInput as error:
        raise InvalidInput(f"row {row}: {error}") from None


def read(spec: TensorInfo, array: Array) -> Any:
    """Return an output as Classes where that is what it holds, (..., C); itself otherwise."""
    return Classes(array, spec.columns, spec.content) if spec.content else array


def read_all(model: ModelInfo, answer: Any) -> Any:
    """Return a model's answer, an array or a dict of them, with `read` applied to each output."""
    if not isinstance(answer, Mapping):
        return read(model.outputs[0], np.asarray(answer))
    return {spec.name: read(spec, np.asarray(answer[spec.name])) for spec in model.outputs}
