"""What several commands take: lists on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from carousel_exporter.errors import SettingsError


def names(values: Iterable[str] | None) -> tuple[str, ...]:
    """Split `a,b` and repeated options into names."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return tuple(part for part in parts if part)


def numbers(option: str, value: str | None) -> tuple[float, ...]:
    """Split `1.5,2` into numbers. Raises SettingsError on anything else."""
    try:
        return tuple(float(part) for part in names([value] if value else ()))
    except ValueError:
        raise SettingsError(f"{option} takes numbers separated by commas, not {value!r}.") from None
