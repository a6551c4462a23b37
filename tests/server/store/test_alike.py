"""The stores answer alike, whatever is asked: Lua scripts and Python have the same rules twice."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carousel_server.store.interface import NOT_COUNTED, Birth
from tests.server.store.conftest import file_world, memory_world, redis_world
from tests.server.store.some import HEADER, RESTORED, A, B, at, saves

IDS = ["x", "y"]
ids = st.sampled_from(IDS)
tokens = st.integers(1, 4)
steps = st.integers(0, 5)
counts = st.sampled_from([NOT_COUNTED, 0, 1, 2, 3, 4, 5])
owners = st.sampled_from([A, B])
headers = st.sampled_from([HEADER, RESTORED])
some = st.lists(ids, min_size=1, max_size=2, unique=True)
rows = st.tuples(ids, tokens, steps, st.binary(max_size=3), counts, st.sampled_from(["", "", "m"]))

calls = st.one_of(
    st.tuples(st.just("create"), owners, headers, some, st.none() | steps),
    st.tuples(st.just("save"), owners, headers, st.lists(rows, min_size=1, max_size=3)),
    st.tuples(st.just("save"), owners, headers, st.lists(rows, min_size=1, max_size=3)),
    st.tuples(st.just("claim"), owners, some, counts),
    st.tuples(st.just("release"), ids, tokens),
    st.tuples(st.just("delete"), ids, tokens),
    st.tuples(st.just("renew"), owners),
    st.tuples(st.just("retire"), owners),
    st.tuples(st.just("time"), st.sampled_from([1.0, 3.0, 4000.0, 8000.0])),
)


def answer(world, store, call):  # noqa: PLR0911
    match call:
        case "create", owner, header, names, step:
            first = None if step is None else at(step)
            return store.create([Birth(name, header, first) for name in names], owner)
        case "save", owner, header, columns:
            full = [(n, t, at(s, data), d, m) for n, t, s, data, d, m in columns]
            return store.save(saves(*full, header=header), owner)
        case "claim", owner, names, delivered:
            return store.claim(names, owner, [delivered] * len(names))
        case "release" | "delete", name, token:
            return getattr(store, call[0])([name], [token])
        case "renew", owner:
            return store.renew(owner, 2.0)
        case "retire", owner:
            return store.retire(owner)
        case "time", seconds:
            return world.let_pass(seconds)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=st.lists(calls, min_size=3, max_size=25))
def test_redis_is_as_memory(running_redis, asked):
    opened = []
    worlds = [memory_world(), redis_world(running_redis, opened)]
    compare(worlds, asked)
    for one in opened:
        one.close()


@settings(max_examples=25, deadline=None)
@given(asked=st.lists(calls, min_size=3, max_size=15))
def test_files_are_as_memory(tmp_path_factory, asked):
    compare([memory_world(), file_world(tmp_path_factory.mktemp("store"))], asked)


def compare(worlds, asked):
    stores = [world.open() for world in worlds]
    for call in asked:
        first, other = (answer(*pair, call) for pair in zip(worlds, stores, strict=True))
        assert first == other
        first, other = (store.load(IDS) for store in stores)
        assert first == other
