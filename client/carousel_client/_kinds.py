"""Whether arguments are of the kind that was asked for, so that what is wrong is said at once."""

from __future__ import annotations

import numbers
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

import numpy as np

from carousel_client._errors import InvalidInput

# The most of a value that a message repeats.
_SHOWN = 40


def check_text(value: object, what: str) -> None:
    """Raise InvalidInput unless it is a string; `what` is its name in the message."""
    if not isinstance(value, str):
        raise _unlike("a string", value, what)


def check_name(value: object, what: str) -> None:
    """Raise InvalidInput unless it is a string that can travel: one without lone surrogates."""
    check_text(value, what)
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{what}: {came(value)} can't be written as UTF-8") from None


def check_whole(value: object, what: str, *, least: int = 0) -> None:
    """Raise InvalidInput unless it is a whole number, `least` or more."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise _unlike("a whole number", value, what)
    if value < least:
        raise InvalidInput(f"{what} must be at least {least}, but is {value}")


def check_number(value: object, what: str) -> None:
    """Raise InvalidInput unless it is a number, and not NaN."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise _unlike("a number", value, what)
    if value != value:  # noqa: PLR0124, NaN alone is unlike itself
        raise InvalidInput(f"{what}: expected a number, but got NaN")


def check_mapping(value: object, what: str) -> None:
    """Raise InvalidInput unless it is a dict, or like one."""
    if not isinstance(value, Mapping):
        raise _unlike("a dict", value, what)


def check_source(value: object, what: str) -> None:
    """Raise InvalidInput unless it can be iterated over, at once or with `async for`."""
    if not isinstance(value, Iterable | AsyncIterable) and not hasattr(value, "__getitem__"):
        raise _unlike("something to iterate over", value, what)


def came(value: Any) -> str:
    """Return what came, as a message names it: its value, cut if it is long, and its type."""
    shown = repr(value)
    if len(shown) > _SHOWN or "\n" in shown:
        return f"a value of type {type(value).__name__}"
    return f"{shown} ({type(value).__name__})"


def _unlike(expected: str, value: object, what: str) -> InvalidInput:
    return InvalidInput(f"{what}: expected {expected}, but got {came(value)}")
