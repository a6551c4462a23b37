"""The three stores, as a fleet of servers sees them, and time that tests pass by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import redis

from carousel_server.store.files import FileStore
from carousel_server.store.interface import Store
from carousel_server.store.memory import MemoryStore
from carousel_server.store.redis import RedisStore
from carousel_server.store.redis_place import redis_place
from tests.support.redis import RunningRedis, run_redis

TTL = 7200.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 1e9) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Shared:
    """A store that several servers share: `open` gives each its own way to it."""

    open: Callable[[], Store]
    let_pass: Callable[[float], None]
    kind: str


def memory_world() -> Shared:
    clock = Clock()
    store = MemoryStore(ttl_seconds=TTL, clock=clock)

    def let_pass(seconds: float) -> None:
        clock.now += seconds

    return Shared(lambda: store, let_pass, "memory")


def file_world(folder) -> Shared:
    clock, today = Clock(1000.0), Clock()

    def let_pass(seconds: float) -> None:
        clock.now += seconds
        today.now += seconds

    def open_it() -> FileStore:
        return FileStore(folder, ttl_seconds=TTL, clock=clock, today=today)

    return Shared(open_it, let_pass, "files")


def redis_world(running: RunningRedis, stores: list[Store]) -> Shared:
    """Return an empty one; time passes by moving the ends of all keys."""
    client = running.client()
    client.flushall()

    def let_pass(seconds: float) -> None:
        for key in client.scan_iter(count=1000):
            left = client.pttl(key)
            if left >= 0:
                # Not above 0: it is removed.
                client.pexpire(key, left - round(seconds * 1000))

    def open_it() -> RedisStore:
        store = RedisStore(redis_place(running.url), ttl_seconds=TTL)
        stores.append(store)
        return store

    stores.append(client)
    return Shared(open_it, let_pass, "redis")


@pytest.fixture(scope="session")
def running_redis(tmp_path_factory) -> Iterator[RunningRedis]:
    with run_redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["memory", "files", "redis"])
def world(request, tmp_path) -> Iterator[Shared]:
    if request.param == "memory":
        yield memory_world()
    elif request.param == "files":
        yield file_world(tmp_path / "store")
    else:
        stores: list[Store | redis.Redis] = []
        yield redis_world(request.getfixturevalue("running_redis"), stores)
        for store in stores:
            store.close()


@pytest.fixture
def store(world) -> Store:
    return world.open()
