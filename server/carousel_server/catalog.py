"""The models that are served: each version with its file, its engine and its driver."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from carousel import wire
from carousel.v1 import manifest_pb2
from carousel_server.engine.driver import Driver
from carousel_server.engine.engine import Engine
from carousel_server.errors import ModelNotFound
from carousel_server.keeping.keeping import EngineKeeper
from carousel_server.spec import ModelSpec
from carousel_server.versions import Stamp, age

_HANDLE_BYTES = np.dtype(wire.HANDLE_DTYPE).itemsize


@dataclass(frozen=True, slots=True)
class Served:
    """One version of one model, ready to be stepped."""

    name: str
    version: str
    number: int  # the engine's number in the directory
    sha256: str
    manifest: manifest_pb2.ModelManifest
    spec: ModelSpec
    engine: Engine
    driver: Driver
    keeper: EngineKeeper
    stamp: Stamp | None = None  # the file's, when it was read
    retired: bool = False  # takes no new sessions, and is unloaded when it has none any more
    former: frozenset[str] = frozenset()  # versions whose sessions it took over


class Catalog:
    """Finds models by name and version; new sessions get the newest version that is not retired.

    It is changed on the event loop. Any thread may read: what is there is never changed, only
    replaced as a whole.
    """

    def __init__(self, models: Iterable[Served] = ()) -> None:
        self._by_number: dict[int, Served] = {}
        self._models: dict[str, dict[str, Served]] = {}
        self._set({model.number: model for model in models})

    def put(self, model: Served) -> None:
        """Add a model, or replace the one of its number."""
        self._set(self._by_number | {model.number: model})

    def remove(self, model: Served) -> None:
        """Forget a model."""
        self._set({n: other for n, other in self._by_number.items() if n != model.number})

    def find(self, name: str, version: str = "") -> Served:
        """Return one model; without a version, the one that new sessions get.

        Raises:
            ModelNotFound: there is none; it names the ones there are.

        """
        versions = self._models.get(name, {})
        found = versions.get(version) if version else _newest(versions)
        if found is None:
            raise self._not_found(name, version)
        return found

    def find_open(self, name: str, version: str = "") -> Served:
        """Return one model that takes new sessions; without a version, the newest.

        Raises:
            ModelNotFound: there is none; it names the ones there are.

        """
        found = self.find(name, version)
        if found.retired:
            raise self._not_found(name, version)
        return found

    def find_running(self, name: str, version: str, handle: int = 0) -> Served:
        """Return the version that runs the session of a handle.

        It may be another one than is named: one that took the session over, or, where none is
        named, an older one than new sessions get by now. Where no version gave the handle it is
        the named one, or the one that took over from that. Two versions never give equal handles
        (`SessionTable`).

        Raises:
            ModelNotFound: there is none; it names the ones there are.

        """
        versions = self._models.get(name, {})
        if len(versions) > 1 and handle:
            for model in versions.values():
                if model.engine.sessions.table.entry_of(handle):  # it only reads: any time will do
                    return model
        if version not in versions:
            for model in versions.values():
                if version in model.former:
                    return model
        return self.find(name, version)

    def by_number(self, number: int) -> Served | None:
        """Return the model whose engine has that number in the directory; None: it was unloaded."""
        return self._by_number.get(number)

    def current(self, model: Served) -> Served:
        """Return what a model is by now: another version may have taken over meanwhile."""
        return self._by_number.get(model.number, model)

    def is_default(self, model: Served) -> bool:
        """Return whether new sessions that name no version get this one."""
        return not model.retired and self.find(model.name).number == model.number

    def all(self) -> list[Served]:
        """Return every version of every model, by name, newest version first."""
        return [
            model
            for _, versions in sorted(self._models.items())
            for model in reversed(versions.values())
        ]

    def versions(self, name: str) -> list[Served]:
        """Return every version of a model, newest first; none where there is no such model."""
        return list(reversed(self._models.get(name, {}).values()))

    def _set(self, by_number: dict[int, Served]) -> None:
        models: dict[str, dict[str, Served]] = {}
        for model in sorted(by_number.values(), key=lambda model: age(model.version)):
            models.setdefault(model.name, {})[model.version] = model
        self._by_number, self._models = by_number, models

    def _not_found(self, name: str, version: str) -> ModelNotFound:
        """Return the error that names what takes new sessions: the model's versions, or models."""
        takers = [model for model in reversed(self.all()) if not model.retired]
        versions = [f"{name}/{model.version}" for model in takers if model.name == name]
        return ModelNotFound(name, version, versions or sorted({model.name for model in takers}))


def first_handle(column: bytes) -> int:
    """Return the first of a message's handles; 0, which is none, where it has none."""
    return int.from_bytes(column[:_HANDLE_BYTES], "little")


def _newest(versions: dict[str, Served]) -> Served | None:
    """Return the newest version that is not retired; where all are, the newest."""
    found = list(reversed(versions.values()))
    return next((model for model in found if not model.retired), found[0] if found else None)
