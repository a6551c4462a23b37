"""The catalog follows the repository: real files and models, looked at when the test says so."""

from __future__ import annotations

import asyncio
import json
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import structlog
from onnx import helper

from carousel_server.catalog import Catalog, Served
from carousel_server.engine import controls
from carousel_server.engine.directory import Directory
from carousel_server.errors import ModelNotFound
from carousel_server.keeping.observer import KeepingObserver
from carousel_server.keeping.starting import start_keeping
from carousel_server.loading import load_models
from carousel_server.metrics import Metrics
from carousel_server.reloader import Reloader
from carousel_server.runtime import repository
from carousel_server.runtime.device import Device
from carousel_server.runtime.model import LoadedModel
from carousel_server.serving import Serving
from carousel_server.settings import Settings
from tests.support import models


def scaled_sum(factor: float = 1.0, *, width: int = 2, name: str = "s"):
    """y = factor * s', s' = s + x: versions that differ by their factor have the same states."""
    nodes = [
        helper.make_node("Add", ["x", name], [f"{name}_out"]),
        helper.make_node("Mul", [f"{name}_out", "factor"], ["y"]),
    ]
    return models.model(
        nodes,
        inputs=[models.tensor("x", width)],
        outputs=[models.tensor("y", width)],
        states=[models.state(name, width)],
        constants={"factor": np.float32(factor)},
    )


@dataclass
class World:
    """A repository, and what is served of it."""

    folder: Path
    catalog: Catalog
    directory: Directory
    metrics: Metrics
    reloader: Reloader
    log: list[dict]
    changes: list[int]

    async def look(self, times: int = 2) -> bool:
        """Look so often; two looks see a file stand still."""
        return [await self.reloader.look() for _ in range(times)][-1]

    async def open(self, *ids: str, version: str = "") -> Served:
        model = self.catalog.find_open("m", version)
        await model.driver.control(controls.Open(list(ids), {}))
        return model

    async def infos(self, *ids: str) -> list[str]:
        """Return the version that runs each session."""
        found = []
        for name in ids:
            model = self.catalog.by_number(self.directory.find(name)[0])
            assert model is not None
            (info,) = await model.driver.control(controls.Describe([name]))
            found.append(model.version)
            assert info.id == name
        return found

    async def close(self, *ids: str) -> None:
        for name in ids:
            model = self.catalog.by_number(self.directory.find(name)[0])
            attached = await model.driver.control(controls.Attach([name]))
            await model.driver.control(controls.close(attached.handles))

    def put(self, version: str, made=None, *, name: str = "m") -> Path:
        return models.put(self.folder, made or scaled_sum(), name, version)

    def take_away(self, version: str, *, name: str = "m") -> None:
        (self.folder / name / version / "model.onnx").unlink()

    def served(self) -> list[str]:
        """Return the versions of `m`, newest first; retired ones in brackets."""
        return [
            f"({model.version})" if model.retired else model.version
            for model in self.catalog.versions("m")
        ]

    def failures(self) -> float:
        found = self.metrics.registry.get_sample_value
        return found("carousel_model_load_failures_total", {"model": "m"})

    def said(self, event: str) -> list[dict]:
        return [line for line in self.log if line["event"] == event]


@pytest.fixture
async def world(tmp_path, request):
    """A world that begins with m/1; `indirect` parameters are settings."""
    folder = tmp_path / "models"
    models.put(folder, scaled_sum(), "m", "1")
    settings = Settings(models=folder, slots=8, threads=1, **getattr(request, "param", {}))
    device, metrics, directory = Device("cpu"), Metrics("test"), Directory(100)
    keeping = await start_keeping(
        settings, server_id=1, address="", observer=KeepingObserver(), on_lapse=lambda: None
    )
    serving = Serving(settings, directory, metrics, keeping, on_crash=pytest.fail)
    catalog = Catalog(map(serving.start, load_models(settings, device)))
    changes: list[int] = []

    async def changed() -> None:
        changes.append(1)

    reloader = Reloader(
        settings,
        device,
        catalog=catalog,
        serving=serving,
        metrics=metrics,
        on_change=changed,
    )
    with structlog.testing.capture_logs() as log:
        yield World(folder, catalog, directory, metrics, reloader, log, changes)
    for model in catalog.all():
        await model.driver.stop()
    await keeping.stop(1.0)


moving = pytest.mark.parametrize("world", [{"migrate": "compatible"}], indirect=True)


async def test_new_sessions_take_the_new_version_and_old_ones_stay(world):
    await world.open("old")
    world.put("2")
    await world.look(1)
    assert world.served() == ["1"], "it may be half of a file"
    await world.look(1)
    assert world.served() == ["2", "(1)"]
    await world.open("new")
    assert await world.infos("old", "new") == ["1", "2"]
    assert [line["sessions"] for line in world.said("model retired")] == [1]
    with pytest.raises(ModelNotFound, match="no model 'm/1' here; there are: m/2"):
        await world.open("late", version="1")
    assert world.catalog.find("m", "1").retired, "its session is still there"


async def test_a_version_that_is_older_than_the_newest_changes_nothing_for_others(world):
    world.put("0.9")
    await world.look()
    assert world.served() == ["1", "0.9"]
    assert (await world.open("a")).version == "1"
    assert (await world.open("b", version="0.9")).version == "0.9"


async def test_a_whole_new_model_is_served(world):
    world.put("7", name="fresh")
    await world.look()
    assert world.catalog.find_open("fresh").version == "7"
    assert world.changes


async def test_a_broken_version_is_refused_once_and_tried_again_when_it_changes(world):
    path = world.put("2")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    await world.look(4)
    assert (world.served(), world.failures()) == (["1"], 1)
    (line,) = world.said("model refused")
    assert line["why"].endswith("not a whole one")
    path.write_bytes(whole)
    await world.look()
    assert (world.served(), world.failures()) == (["2", "(1)"], 1)


async def test_a_file_that_grows_from_look_to_look_is_neither_loaded_nor_refused(world):
    path = world.folder / "m" / "2" / "model.onnx"
    path.parent.mkdir()
    whole = scaled_sum().SerializeToString()
    for part in range(8):
        with path.open("ab") as file:
            file.write(whole[part * len(whole) // 8 : (part + 1) * len(whole) // 8])
        assert await world.look(1), "it asks for another look"
        assert (world.served(), world.failures()) == (["1"], 0)
    assert not await world.look(1)
    assert world.served() == ["2", "(1)"]


async def test_a_file_that_changes_while_it_is_read_is_looked_at_again(world, monkeypatch):
    path = world.put("2")
    reading = repository.check_name

    def slow(entry):
        with path.open("ab") as file:  # somebody is writing still
            file.write(b"\0")
        reading(entry)

    await world.look(1)
    monkeypatch.setattr(repository, "check_name", slow)
    await world.look(1)
    monkeypatch.undo()
    assert (world.served(), world.failures()) == (["1"], 0)
    assert world.said("a file changed while it was read")


async def test_names_that_would_not_travel_are_refused_and_the_others_served(world):
    world.put("2 b")
    world.put("3")
    await world.look(3)
    assert world.served() == ["3", "(1)"]
    (line,) = world.said("model refused")
    assert "'2 b' is no name for a model or a version" in line["why"]


async def test_a_version_that_is_taken_away_gives_way_to_the_one_before(world):
    world.put("2")
    await world.look()
    await world.open("on2")
    world.take_away("2")
    await world.look(1)
    assert world.served()[0] == "2", "it may be there again in a moment"
    await world.look()
    assert "1" in world.served()
    assert "(2)" in world.served()
    assert (await world.open("on1")).version == "1"
    assert await world.infos("on2", "on1") == ["2", "1"]


async def test_a_repository_that_is_not_there_for_a_moment_changes_nothing(world):
    away = world.folder.with_name("away")
    world.folder.rename(away)
    await world.look(3)
    world.folder.mkdir()
    await world.look(3)
    assert world.served() == ["1"]
    assert len(world.said("the repository can't be followed")) == 1, "said once, not at each look"
    world.folder.rmdir()
    away.rename(world.folder)
    await world.look(3)
    assert world.served() == ["1"]


async def test_a_loaded_versions_file_is_not_read_again(world):
    world.put("1", scaled_sum(10.0))
    before = world.catalog.find("m")
    await world.look(4)
    assert world.catalog.find("m") is before
    assert len([line for line in world.log if line["log_level"] == "warning"]) == 1


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.02)


async def test_a_retired_version_is_unloaded_when_its_last_session_ends(world):
    await world.open("a", "b")
    world.put("2")
    await world.look()
    runner = world.catalog.find("m", "1").engine._ticks._runner
    pool, session = weakref.ref(runner.pool), weakref.ref(runner._narrow)
    running = asyncio.create_task(world.reloader.run())
    await world.close("a")
    assert world.served() == ["2", "(1)"]
    await world.close("b")
    await until(lambda: world.said("model unloaded"))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert world.served() == ["2"]
    assert (pool(), session()) == (None, None), "the memory is given back at once"
    with pytest.raises(ModelNotFound, match="no model 'm/1' here; there are: m/2"):
        world.catalog.find("m", "1")
    families = [family for family in world.metrics.registry.collect() if "load_sec" in family.name]
    assert [s.labels["version"] for family in families for s in family.samples] == ["2"]


async def test_a_superseded_version_is_not_loaded_again_but_after_a_step_back(world):
    world.put("2")
    await world.look()
    world.catalog.remove(world.catalog.find("m", "1"))  # as if it had been unloaded
    await world.look(3)
    assert world.served() == ["2"]
    world.take_away("2")
    await world.look(3)
    assert world.served() == ["(2)", "1"]


@moving
async def test_compatible_versions_hand_their_sessions_on(world):
    await world.open("a")
    number = world.catalog.find("m").number
    old = weakref.ref(world.catalog.find("m").engine._ticks._runner.pool)
    world.put("2", scaled_sum(10.0))
    await world.look()
    assert world.served() == ["2"]
    assert await world.infos("a") == ["2"]
    assert world.catalog.find("m").number == number
    assert old() is None, "the old version's memory is given back at once"
    assert world.catalog.find_running("m", "1").version == "2"
    assert world.said("sessions moved")[0]["sessions"] == 1
    with pytest.raises(ModelNotFound, match="no model 'm/1' here; there are: m/2"):
        await world.open("b", version="1")
    world.take_away("2")
    await world.look(3)
    assert world.served() == ["1"], "and back again"
    assert await world.infos("a") == ["1"]


@moving
async def test_versions_with_other_states_do_not(world):
    await world.open("a")
    world.put("2", scaled_sum(name="h"))
    await world.look()
    assert world.served() == ["2", "(1)"]
    assert await world.infos("a") == ["1"]
    (line,) = world.said("sessions stay")
    assert line["why"] == "its states are 'h' float32[2]; they were 's' float32[2]"
    json.dumps(line)


async def test_every_engine_has_a_number_of_its_own(world):
    numbers = {world.catalog.find("m").number}
    for version in ("2", "3", "4"):
        world.put(version)
        await world.look()
        numbers.add(world.catalog.find("m").number)
        for model in world.catalog.versions("m"):
            if model.retired:
                world.catalog.remove(model)
                await model.driver.stop()
    assert len(numbers) == 4


@moving
async def test_a_drain_while_sessions_move_leaves_none_of_it_half_done(world, monkeypatch):
    old = await world.open("a", "b")
    await world.open("c")
    closed, asked = [], asyncio.Event()

    def close(model):
        closed.append(model)

    monkeypatch.setattr(LoadedModel, "close", close)
    change = old.driver.change

    async def noted(*arguments, **options):
        asked.set()
        return await change(*arguments, **options)

    monkeypatch.setattr(old.driver, "change", noted)
    world.put("2", scaled_sum(2.0))
    await world.look(1)
    with old.driver._turn:  # the engine is in the middle of a turn
        looking = asyncio.create_task(world.look(1))
        async with asyncio.timeout(60):
            await asked.wait()
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
    async with asyncio.timeout(60):
        while world.served() != ["2"]:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.005)
    assert await world.infos("a", "b", "c") == ["2", "2", "2"]
    assert len(closed) == 1
    assert old.keeper.recorder.header(0.0, initial=True).version == "2"
    assert [line["sessions"] for line in world.said("sessions moved")] == [3]
