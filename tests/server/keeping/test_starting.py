"""What shows of the store before a server has a session, and while it has none."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from carousel_server.keeping.keeper import Keeper
from carousel_server.keeping.keeping import Keeping
from carousel_server.keeping.starting import start_keeping
from carousel_server.settings import Settings
from tests.server.keeping.test_keeper import Watch
from tests.server.store.some import A
from tests.support.stores import SharedStore


async def test_a_store_that_is_not_there_shows_at_the_start(tmp_path):
    settings = Settings(models=tmp_path, store="redis://:secret@127.0.0.1:1/0")
    watch = Watch()
    with capture_logs() as log:
        keeping = await start_keeping(
            settings, server_id=1, address="", observer=watch, on_lapse=lambda: None
        )
    (said,) = (line for line in log if line["log_level"] == "error")
    assert said["event"] == "the store does not answer; sessions are not saved"
    assert said["why"].startswith("redis://127.0.0.1:1/0 can't be reached: ")
    assert "secret" not in str(log)
    assert watch.up == [False]
    await keeping.stop(1)


async def test_a_store_that_is_there_shows_too(tmp_path):
    settings = Settings(models=tmp_path, store=f"file:{tmp_path / 'store'}")
    watch = Watch()
    with capture_logs() as log:
        keeping = await start_keeping(
            settings, server_id=1, address="", observer=watch, on_lapse=lambda: None
        )
    assert log == []
    assert watch.up == [True]
    await keeping.stop(1)


async def test_an_idle_server_sees_the_store_go_and_come_back():
    store, watch = SharedStore(), Watch()
    keeper = Keeper(store, A, loop=asyncio.get_running_loop(), max_bytes=100, observer=watch)
    keeping = Keeping(store, A, keeper, None)
    for away in (False, True, False):
        store.away = away
        await keeping.look()
    assert watch.up == [True, False, True]
    await keeping.stop(1)


async def test_writes_that_are_refused_are_not_outdone_by_a_look():
    """A full Redis answers a ping, and takes nothing."""
    store, watch = SharedStore(), Watch()
    keeper = Keeper(store, A, loop=asyncio.get_running_loop(), max_bytes=100, observer=watch)
    keeping = Keeping(store, A, keeper, None)
    store.away = True
    written = asyncio.Event()
    keeper.write(lambda store: store.release([], []), lambda _: written.set())
    async with asyncio.timeout(10):
        while not watch.up:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.005)
    calls = len(store.calls)
    await keeping.look()
    assert watch.up == [False]
    assert len(store.calls) == calls
    store.away = False
    await asyncio.wait_for(written.wait(), 10)
    await keeping.stop(1)
