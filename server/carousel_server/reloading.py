"""What to do about a repository that has changed: from what was seen and is loaded to a plan.

Pure functions; `reloader.py` looks, and does what they say. A version is a `(model, version)` pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from carousel_server.spec import ModelSpec, TensorSpec
from carousel_server.versions import Age, Stamp, age

Version = tuple[str, str]
Stamps = Mapping[Version, Stamp]


@dataclass(frozen=True, slots=True)
class Here:
    """How a version is loaded: from which state of its file, and whether it is retired."""

    stamp: Stamp | None
    retired: bool = False


@dataclass(slots=True)
class History:
    """What looks and loads have left behind."""

    before: dict[Version, Stamp] = field(default_factory=dict)  # what the last look saw
    refused: dict[Version, Stamp] = field(default_factory=dict)  # what could not be loaded
    superseded: dict[Version, Stamp] = field(default_factory=dict)  # by a newer one

    def forget(self, there: Stamps) -> None:
        """Forget what is not there any more: should it come again, it is new."""
        for noted in (self.refused, self.superseded):
            for version in noted.keys() - there.keys():
                del noted[version]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in this order."""

    load: tuple[Version, ...] = ()  # a model's newest first
    restore: tuple[Version, ...] = ()  # retired ones that are to take new sessions again
    retire: tuple[Version, ...] = ()  # their files are gone
    changed: tuple[Version, ...] = ()  # loaded ones with another file by now: nothing is done
    unsettled: bool = False  # a file is there that may be being written still


def plan(seen: Stamps, loaded: Mapping[Version, Here], history: History) -> Plan:
    """Return what to do about what a look has seen.

    A file counts once two looks saw it with the same size and time, and is gone once two looks did
    not see it. A version that could not be loaded is tried again when its file has changed. One
    that a newer version took over from stays away, unless it has become the newest that is there.
    """
    before = history.before
    there = {v: before[v] for v in loaded if v in before} | dict(seen)
    fit = {v: stamp for v, stamp in there.items() if history.refused.get(v) != stamp}
    still = {v for v, stamp in fit.items() if before.get(v) == stamp}
    newest = {v[0]: v for v in sorted(still | (fit.keys() & loaded.keys()), key=_age)}
    wanted = {
        v for v, stamp in fit.items() if history.superseded.get(v) != stamp or newest.get(v[0]) == v
    }
    return Plan(
        load=tuple(sorted((wanted & still) - loaded.keys(), key=_age, reverse=True)),
        restore=tuple(
            v
            for v, here in loaded.items()
            if here.retired and v in wanted & still and here.stamp == there[v]
        ),
        retire=tuple(v for v, here in loaded.items() if v not in there and not here.retired),
        changed=tuple(v for v, here in loaded.items() if v in still and here.stamp != there[v]),
        unsettled=any(v not in still and v not in loaded for v in fit)
        or any(v not in seen and v in there and not loaded[v].retired for v in loaded),
    )


def supersedes(new: Version, old: Version, there: Iterable[Version]) -> bool:
    """Return whether new sessions that went to `old` go to `new` now: it is newer, or `old` gone.

    Args:
        new: a version that was just loaded.
        old: the version that new sessions got until now.
        there: the versions that are in the repository.

    """
    return age(new[1]) > age(old[1]) or old not in there


def difference(old: ModelSpec, new: ModelSpec) -> str:
    """Return why sessions can't go on with another version; nothing where they can.

    Inputs, outputs and states must be the same, in names, types, shapes, bounds and order.
    """
    for what, before, after in (
        ("inputs", old.inputs, new.inputs),
        ("outputs", old.outputs, new.outputs),
        ("states", _schema(old), _schema(new)),
    ):
        if before != after:
            return f"its {what} are {_shown(after)}; they were {_shown(before)}"
    return ""


def _schema(spec: ModelSpec) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(state.name, state.dtype, state.shape) for state in spec.states)


def _shown(tensors: Iterable[TensorSpec]) -> str:
    return ", ".join(f"{t.name!r} {t.dtype}{list(t.shape)}{_bounds(t)}" for t in tensors)


def _bounds(tensor: TensorSpec) -> str:
    low = "" if tensor.minimum is None else f" from {tensor.minimum}"
    return low if tensor.maximum is None else f"{low} up to {tensor.maximum}"


def _age(version: Version) -> tuple[str, Age]:
    return version[0], age(version[1])
