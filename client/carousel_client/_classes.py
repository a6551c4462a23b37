"""Answers that are probabilities of named classes: labels, the likeliest, a draw by lot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from carousel_client._columns import Array, Ints
from carousel_client._errors import InvalidInput
from carousel_client._kinds import check_number, check_whole

#: What the numbers of an output are: plain ones, or probabilities of the classes of its columns.
Content: TypeAlias = Literal["", "probabilities", "log_probabilities"]

#: A source of chance: a generator, a seed for one, or None for one of its own.
Chance: TypeAlias = np.random.Generator | int | None

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Classes:
    """Probabilities of C named classes, for one step `[C]` or more, `[T, C]`.

    `array` is what the server answered: probabilities, or their natural logarithms, as `content`
    says. numpy takes the whole for that array. An index chooses steps: `answer[-1]` is the last.
    """

    array: Array
    names: tuple[str, ...]
    content: Content

    def __post_init__(self) -> None:
        if self.array.shape[-1:] != (len(self.names),):
            raise InvalidInput(
                f"there are {len(self.names)} classes, so expected an array [..., "
                f"{len(self.names)}], but got {list(self.array.shape)}"
            )

    @property
    def labels(self) -> Any:
        """Return the most probable class's name: a str for one step, a list of T for T."""
        return _named(self.names, self.array.argmax(axis=-1))

    @property
    def probabilities(self) -> Array:
        """Return the probabilities, [C] or [T, C]."""
        return self.array if self.content == "probabilities" else np.exp(self.array)

    @property
    def log_probabilities(self) -> Array:
        """Return the probabilities' natural logarithms, [C] or [T, C]; -inf for 0."""
        if self.content == "log_probabilities":
            return self.array
        with np.errstate(divide="ignore"):
            return np.log(self.array)

    def top(self, k: int) -> Any:
        """Return the k most probable classes as pairs of name and probability, best first.

        A list of pairs for one step, a list of T such lists for T. Raises InvalidInput.
        """
        check_whole(k, "k", least=1)
        order = np.argsort(-self.array, axis=-1, kind="stable")[..., :k]
        best = np.take_along_axis(self.probabilities, order, axis=-1)
        if self.array.ndim == 1:
            return self._pairs(order, best)
        width = order.shape[-1]
        rows = zip(order.reshape(-1, width), best.reshape(-1, width), strict=True)
        return _nested([self._pairs(*row) for row in rows], order.shape[:-1])

    def sample(self, rng: Chance = None, *, temperature: float = 1.0) -> Any:
        """Draw a class for each step by its probability; return names as `labels` does.

        Probabilities are raised to the power 1/temperature first: below 1 the likely ones gain, at
        0 the most probable is taken. `rng` is a numpy generator or a seed. Raises InvalidInput.
        """
        return _named(self.names, draw(self.log_probabilities, rng, temperature=temperature))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:  # noqa: FBT001, numpy's
        if copy is None:
            return np.asarray(self.array, dtype)
        return np.array(self.array, dtype, copy=copy)

    def __len__(self) -> int:
        return len(self._steps())

    def __getitem__(self, steps: Any) -> Classes:
        return Classes(self._steps()[steps], self.names, self.content)

    def __iter__(self) -> Iterator[Classes]:
        return (self[step] for step in range(len(self)))

    def __repr__(self) -> str:
        return f"<Classes {list(self.array.shape)} of {len(self.names)}: {self.labels!r}>"

    def _steps(self) -> Array:
        if self.array.ndim == 1:
            raise TypeError("these are the classes of one step; `array` has their numbers")
        return self.array

    def _pairs(self, order: Ints, best: Array) -> list[tuple[str, float]]:
        return [(self.names[i], float(p)) for i, p in zip(order.tolist(), best, strict=True)]


def draw(logs: Array, rng: Chance = None, *, temperature: float = 1.0) -> Any:
    """Draw an index of the last axis by these log-probabilities: (..., C) -> (...).

    They need no sum of 1. Raises InvalidInput for a temperature below 0, or nothing to draw from.
    """
    check_number(temperature, "temperature")
    if not 0 <= temperature < np.inf:
        raise InvalidInput(f"temperature must be 0 or more, and finite, but is {temperature:g}")
    if temperature == 0:
        return logs.argmax(axis=-1)
    scores: Floats = logs.astype(np.float64)
    highest = scores.max(axis=-1, keepdims=True)
    if not np.isfinite(highest).all():
        raise InvalidInput("there is a step at which no class has a probability to be drawn by")
    # The differences first: at a low temperature the quotients alone would overflow.
    heaps = np.cumsum(np.exp((scores - highest) / temperature), axis=-1)
    lots = np.random.default_rng(rng).random(heaps.shape[:-1]) * heaps[..., -1]
    # The first heap that is above the lot, so never one that adds nothing to the heap before.
    return (heaps <= lots[..., np.newaxis]).sum(axis=-1)


def _named(names: Sequence[str], indices: Any) -> Any:
    array = np.asarray(indices)
    return _nested([names[i] for i in array.ravel().tolist()], array.shape)


def _nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    """Return a flat list as nested ones of this shape; its only element for []."""
    if not shape:
        return flat[0]
    if len(shape) == 1:
        return flat
    inner = len(flat) // shape[0] if shape[0] else 0
    return [_nested(flat[i * inner : (i + 1) * inner], shape[1:]) for i in range(shape[0])]
