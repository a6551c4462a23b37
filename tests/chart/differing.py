"""What differs between two renders of the chart, as paths that can be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.chart.tools import Manifest


def flat(manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Return every value by its path, such as `Service/release spec.ports[grpc].port`.

    Members of a list go by their names where they have some; an object that is empty is a value.
    """
    return {
        f"{manifest['kind']}/{manifest['metadata']['name']} {path}": value
        for manifest in manifests
        for path, value in _leaves(manifest, "")
    }


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, member in value.items():
            yield from _leaves(member, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for number, member in enumerate(value):
            named = isinstance(member, dict) and "name" in member
            yield from _leaves(member, f"{path}[{member['name'] if named else number}]")
    else:
        yield path, value


def changed(before: Sequence[Manifest], after: Sequence[Manifest]) -> set[str]:
    """Return the paths whose values differ, or that one side has alone."""
    old, new = flat(before), flat(after)
    missing = object()
    return {
        path for path in old.keys() | new.keys() if old.get(path, missing) != new.get(path, missing)
    }


def unexpected(found: set[str], expected: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return what changed and should not have, and what should have changed and did not.

    An expected path stands for all below it.
    """
    return (
        {path for path in found if not path.startswith(tuple(expected))},
        {path for path in expected if not any(was.startswith(path) for was in found)},
    )
