"""Loads what appears in the model repository, and unloads what has gone, while the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from carousel_server import log
from carousel_server.catalog import Catalog, Served
from carousel_server.errors import CarouselError
from carousel_server.loading import Loaded, load_model
from carousel_server.metrics import Metrics
from carousel_server.reloading import (
    Here,
    History,
    Stamps,
    Version,
    difference,
    plan,
    supersedes,
)
from carousel_server.runtime import repository
from carousel_server.runtime.device import Device
from carousel_server.serving import Serving
from carousel_server.settings import Settings
from carousel_server.versions import Stamp

# How long a file must stand still where nobody polls, or somebody asked for a look at once.
_SETTLE_SECONDS = 1.0
_UNLOAD_SECONDS = 1.0


class Reloader:
    """Keeps the catalog in step with the repository. Used on the event loop.

    Files are looked at and loaded on a thread, so that no tick waits for a disk or for a model.
    """

    def __init__(
        self,
        settings: Settings,
        device: Device,
        *,
        catalog: Catalog,
        serving: Serving,
        metrics: Metrics,
        on_change: Callable[[], Awaitable[None]],
    ) -> None:
        """Look at nothing yet.

        Args:
            settings: where the repository is, and what to do about it.
            device: where models go.
            catalog: what is served.
            serving: starts and stops engines.
            metrics: counts what can't be loaded.
            on_change: called when there are other models than before.

        """
        self._settings = settings
        self._device = device
        self._catalog = catalog
        self._serving = serving
        self._metrics = metrics
        self._on_change = on_change
        self._asked = asyncio.Event()
        self._history = History({_version(m): m.stamp for m in catalog.all() if m.stamp})
        self._warned: dict[str, dict[str, object]] = {}

    def look_now(self) -> None:
        """Look at the repository at once, and not only when it is time."""
        self._asked.set()

    async def run(self) -> None:
        """Follow the repository until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._unload_empty())

    async def _follow(self) -> None:
        period = self._settings.reload_seconds
        unsettled = asked = False
        while True:
            quick = unsettled and (asked or not period)
            pause = min(_SETTLE_SECONDS, period or _SETTLE_SECONDS) if quick else period
            asked = await self._wait(pause or None) or quick
            try:
                unsettled = await self.look()
            except Exception:  # noqa: BLE001 - what is served goes on
                log.get().exception("the repository can't be followed")

    async def _wait(self, seconds: float | None) -> bool:
        """Wait, or until somebody asks for a look; return whether somebody did."""
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    async def look(self) -> bool:
        """Look once and do what is to be done; return whether another look is needed for it."""
        try:
            found = await asyncio.to_thread(repository.look, self._settings.models)
            why = "" if found else "it holds no model"  # as one that is not mounted, for a moment
        except OSError as error:
            found, why = {}, str(error)
        if why:
            self._warn("the repository can't be followed", folder=self._settings.models, why=why)
            return False
        entries = {(entry.name, entry.version): entry for entry in found}
        seen = {(entry.name, entry.version): stamp for entry, stamp in found.items()}
        todo = plan(seen, self._loaded(), self._history)
        for version in todo.load:
            await self._load(entries[version], seen[version], there=seen)
        for version in todo.restore:
            self._restore(version)
        for version in todo.retire:
            self._retire(version, "its file is gone")
        for version in todo.changed:
            why = "a loaded version's file changed, which does nothing: make it another version"
            self._warn(why, file=entries[version].path, stamp=seen[version])
        self._history.forget(self._history.before | seen)
        self._history.before = seen
        if todo.load or todo.restore or todo.retire:
            await self._on_change()
        return todo.unsettled

    async def _load(self, entry: repository.Entry, stamp: Stamp, *, there: Stamps) -> None:
        version = (entry.name, entry.version)
        log.get().info("model found", model=entry.name, version=entry.version, bytes=stamp.size)
        try:
            item: Loaded | str = await asyncio.to_thread(self._read, entry)
        except CarouselError as error:
            item = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a file holds
            log.get().exception("a model failed to load", model=entry.name, version=entry.version)
            item = f"{entry.path}: {type(error).__name__}: {error}"
        if await asyncio.to_thread(_stamp, entry) != stamp:
            log.get().info("a file changed while it was read", file=str(entry.path))
        elif isinstance(item, str):
            self._history.refused[version] = stamp
            self._metrics.load_failures.labels(entry.name).inc()
            log.get().error("model refused", model=entry.name, version=entry.version, why=item)
        else:
            await self._serve(item, there)

    def _read(self, entry: repository.Entry) -> Loaded:
        repository.check_name(entry)
        return load_model(entry, self._settings, self._device)

    async def _serve(self, item: Loaded, there: Stamps) -> None:
        """Let a loaded version take new sessions, those of an older one too where it may."""
        new = (item.entry.name, item.entry.version)
        self._history.superseded.pop(new, None)
        old = next((m for m in self._catalog.versions(new[0]) if not m.retired), None)
        if old is None or not supersedes(new, _version(old), there):
            self._catalog.put(self._serving.start(item))
            return
        # The engine carries a move out whoever waits for it. So a drain, which ends this task, must
        # not come between it and what belongs to it: which version saves the sessions, and that
        # the old one is closed.
        if not await asyncio.shield(asyncio.ensure_future(self._move(old, item))):
            self._catalog.put(self._serving.start(item))
            self._retire(_version(old), f"version {new[1]} takes its place")
        if old.stamp:
            self._history.superseded[_version(old)] = old.stamp

    async def _move(self, old: Served, item: Loaded) -> bool:
        """Have the sessions of a version go on with a new one, if they may and can."""
        if self._settings.migrate == "none":
            return False
        name, version = item.entry.name, item.entry.version
        why = difference(old.spec, item.model.spec)
        if not why:
            try:
                model, sessions = await self._serving.change(old, item)
            except CarouselError as error:
                why = str(error)
            else:
                self._catalog.put(model)
                log.get().info(
                    "sessions moved", model=name, old=old.version, new=version, sessions=sessions
                )
                return True
        log.get().warning("sessions stay", model=name, old=old.version, new=version, why=why)
        return False

    def _retire(self, version: Version, why: str) -> None:
        """Have a version take no new sessions, and go when its last one has ended."""
        if model := self._find(version):
            self._catalog.put(replace(model, retired=True))
            log.get().info(
                "model retired",
                model=model.name,
                version=model.version,
                why=why,
                sessions=model.engine.sessions.table.open,
            )

    def _restore(self, version: Version) -> None:
        self._history.superseded.pop(version, None)
        if model := self._find(version):
            self._catalog.put(replace(model, retired=False))
            log.get().info("model restored", model=model.name, version=model.version)

    async def _unload_empty(self) -> None:
        """Unload retired versions that have no sessions; look for them now and then."""
        while True:
            await asyncio.sleep(_UNLOAD_SECONDS)
            for number in [model.number for model in self._catalog.all()]:
                model = self._catalog.by_number(number)
                if model and model.retired and _empty(model):
                    self._catalog.remove(model)
                    await self._serving.stop(model)
                    log.get().info("model unloaded", model=model.name, version=model.version)
                    await self._on_change()

    def _loaded(self) -> dict[Version, Here]:
        return {_version(m): Here(m.stamp, m.retired) for m in self._catalog.all()}

    def _find(self, version: Version) -> Served | None:
        models = self._catalog.versions(version[0])
        return next((model for model in models if model.version == version[1]), None)

    def _warn(self, event: str, **about: object) -> None:
        """Log a warning, but not at every look that finds the same."""
        if self._warned.get(event) != about:
            self._warned[event] = about
            log.get().warning(event, **{name: str(value) for name, value in about.items()})


def _version(model: Served) -> Version:
    return model.name, model.version


def _empty(model: Served) -> bool:
    # What was on its way to it when it was retired has come in, or the driver isn't idle.
    return not model.engine.sessions.table.open and model.driver.idle


def _stamp(entry: repository.Entry) -> Stamp | None:
    try:
        return Stamp.of(entry.path)
    except OSError:
        return None
