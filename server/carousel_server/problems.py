"""What is wrong with a setting, as one sentence: where it was given, what came, what was expected.

What pydantic says of a problem is for programmers; what was expected is read from the settings'
own types and bounds, so that it is said in one place.
"""

from __future__ import annotations

import os
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from carousel_server.errors import shown


@dataclass(frozen=True, slots=True)
class Expected:
    """What a setting takes, where its type does not say it: `Annotated[..., Expected("...")]`."""

    words: str


def sentences(
    error: ValidationError,
    settings: type[BaseSettings],
    flags: Mapping[str, Any],
    config: Path | None,
) -> list[str]:
    """Return a sentence on each problem, without the dot at its end."""
    return [_sentence(problem, settings, flags, config) for problem in error.errors()]


def _sentence(
    problem: Any, settings: type[BaseSettings], flags: Mapping[str, Any], config: Path | None
) -> str:
    own_words = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:  # about several settings, which it names
        return str(own_words)
    name = str(problem["loc"][0])
    field = settings.model_fields.get(name)
    if problem["type"] == "missing":
        return f"{_flag(name)} (or {_variable(name, settings)}) is missing"
    if field is None:
        return f"there is no setting {name.replace('_', '-')!r}"
    why = own_words if problem["type"] == "value_error" else f"{_expected(field)} was expected"
    return f"{_given(name, problem['input'], settings, flags, config)}: {why}"


def _given(
    name: str,
    value: Any,
    settings: type[BaseSettings],
    flags: Mapping[str, Any],
    config: Path | None,
) -> str:
    """Return what was given, as it was given: by a flag, a variable or a line of the file."""
    came = shown(value)[1:-1] if isinstance(value, str) else str(value)
    if name in flags:
        return f"{_flag(name)} {came}" if came else f"{_flag(name)} ''"
    variable = _variable(name, settings)
    for there in os.environ:
        if there.upper() == variable:
            return f"{there}={came}"
    return f"{name}: {came} in {config}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _variable(name: str, settings: type[BaseSettings]) -> str:
    return f"{settings.model_config.get('env_prefix', '')}{name}".upper()


def _expected(field: FieldInfo) -> str:
    """Return what a setting takes, by its type and bounds."""
    for mark in field.metadata:
        if isinstance(mark, Expected):
            return mark.words
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is Literal:
        *others, last = map(str, get_args(kind))
        return f"{', '.join(others)} or {last}"
    if kind is bool:
        return "true or false"
    if kind is int:
        return f"a whole number{_bounds(field)}"
    if kind is float:
        return f"a number{_bounds(field)}"
    return "a path" if kind is Path else "text"


def _bounds(field: FieldInfo) -> str:
    def bounds(name: str) -> list[Any]:
        # A field may be bound more tightly than its type is for all.
        return [getattr(mark, name) for mark in field.metadata if hasattr(mark, name)]

    low = "".join([f" above {bound:,}" for bound in bounds("gt")])
    low = f" from {max(least):,}" if (least := bounds("ge")) else low
    return f"{low} to {min(most):,.0f}" if (most := bounds("le")) else low
