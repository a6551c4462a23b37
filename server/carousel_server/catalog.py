"""The models that are served: each version with its file, its engine and its driver."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from carousel.v1 import manifest_pb2
from carousel_server.engine.driver import Driver
from carousel_server.errors import ModelNotFound
from carousel_server.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Served:
    """One version of one model, ready to be stepped."""

    name: str
    version: str
    number: int  # the engine's number in the directory
    sha256: str
    manifest: manifest_pb2.ModelManifest
    spec: ModelSpec
    driver: Driver


class Catalog:
    """Finds models by name and version; the last version added is the one new sessions get."""

    def __init__(self, models: Iterable[Served]) -> None:
        self._models: dict[str, dict[str, Served]] = {}
        self._by_number: dict[int, Served] = {}
        for model in models:
            self._models.setdefault(model.name, {})[model.version] = model
            self._by_number[model.number] = model

    def find(self, name: str, version: str = "") -> Served:
        """Return one model; without a version, the one that new sessions get.

        Raises:
            ModelNotFound: there is none; it names the ones there are.

        """
        versions = self._models.get(name)
        if versions and not version:
            return versions[next(reversed(versions))]
        if versions and version in versions:
            return versions[version]
        known = [f"{name}/{version}" for version in versions] if versions else sorted(self._models)
        raise ModelNotFound(name, version, known)

    def by_number(self, number: int) -> Served:
        """Return the model whose engine has that number in the directory."""
        return self._by_number[number]

    def is_default(self, model: Served) -> bool:
        """Return whether new sessions that name no version get this one."""
        return self.find(model.name) is model

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
