"""Example arguments: what each tensor that a program takes looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from carousel.wire import NUMPY_DTYPES
from carousel_exporter.errors import SettingsError

#: The axes whose sizes may differ from run to run, and the sizes that a program is traced with:
#: neither 1, which a tracer may take for granted, nor equal.
OPEN: Final[Mapping[str, int]] = {"T": 5, "B": 3}

#: A list of their own, because numpy reads more into words like "B,T" than it should.
_DTYPES: Final = frozenset(np.dtype(code).name for code in NUMPY_DTYPES.values())
FORM: Final = "NAME=[TYPE:]SIZES[:LEAST..GREATEST], such as x=T,B,16 or tokens=int64:T,B:0..999"


@dataclass(frozen=True)
class Example:
    """One tensor argument: `dims` has a number, "T" (steps) or "B" (rows) for each axis.

    A name with dots, `state.0`, is a part of an argument that is a tuple. `bounds` are the least
    and greatest value of an integer.
    """

    name: str
    dims: tuple[int | str, ...]
    dtype: str = "float32"
    bounds: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> Example:
        """Read one, in the form of FORM. Raises SettingsError on anything else."""
        name, _, rest = text.partition("=")
        parts = rest.split(":")
        dtype = parts.pop(0) if parts[0] in _DTYPES else ""
        bounds = _parse_bounds(parts.pop()) if parts and ".." in parts[-1] else None
        if not name or len(parts) != 1 or not (dtype or parts[0]):
            raise SettingsError(f"--example takes {FORM}, not {text!r}.")
        sizes = [size.strip() for size in parts[0].split(",")] if parts[0] else []
        dims = tuple(size if size in OPEN else _parse_size(size, text) for size in sizes)
        if bounds and np.dtype(dtype or "float32").kind not in "iu":
            raise SettingsError(f"--example {text} has bounds, which are for integers alone.")
        return cls(name, dims, dtype or "float32", bounds)

    @classmethod
    def of(cls, name: str, value: object) -> Example:
        """Make one of what a function gave: a specification, or a tensor, whose sizes are fixed."""
        if isinstance(value, str):
            return cls.parse(f"{name}={value}")
        if isinstance(value, Tensor):
            return cls(name, tuple(value.shape), str(value.dtype).removeprefix("torch."))
        raise SettingsError(
            f"The example {name!r} is of type {type(value).__name__}: give a tensor, or its type "
            "and sizes such as 'float32:T,B,16'."
        )

    @property
    def open_axes(self) -> dict[int, str]:
        """The axes that may differ from run to run."""
        return {axis: dim for axis, dim in enumerate(self.dims) if isinstance(dim, str)}

    def draw(self) -> Tensor:
        """Return a tensor to trace with: small random numbers, or the least integer."""
        shape = [OPEN[dim] if isinstance(dim, str) else dim for dim in self.dims]
        dtype: torch.dtype = getattr(torch, self.dtype)
        if not dtype.is_floating_point:
            return torch.full(shape, self.bounds[0] if self.bounds else 0, dtype=dtype)
        generator = torch.Generator().manual_seed(0)
        return torch.randn(shape, generator=generator).to(dtype)


def nest(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Return arguments by name, parts `a.0`, `a.1`, … put together as a tuple.

    Raises SettingsError where a name comes twice or parts don't count from 0.
    """
    result: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        outer, dot, place = name.partition(".")
        parts = result.setdefault(outer, [] if dot else None)
        if dot and isinstance(parts, list) and place == str(len(parts)):
            parts.append(value)
        elif not dot and parts is None:
            result[outer] = value
        else:
            raise SettingsError(
                f"--example names {name!r} out of turn: give each argument once, the parts of a "
                "tuple as NAME.0, NAME.1 and so on, in order."
            )
    return {name: tuple(v) if isinstance(v, list) else v for name, v in result.items()}


def _parse_size(size: str, text: str) -> int:
    if not size.isdecimal() or int(size) < 1:
        raise SettingsError(
            f"--example takes {FORM}, sizes being numbers, T (steps) or B (rows), not {text!r}."
        )
    return int(size)


def _parse_bounds(text: str) -> tuple[int, int]:
    least, _, greatest = text.partition("..")
    try:
        bounds = int(least), int(greatest)
    except ValueError:
        bounds = (1, 0)
    if bounds[0] > bounds[1]:
        raise SettingsError(
            f"--example takes bounds LEAST..GREATEST, such as 0..999, not {text!r}."
        )
    return bounds
