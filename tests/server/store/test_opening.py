"""From `--store` to a store, or to a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from carousel_server.errors import ConfigError
from carousel_server.store.files import FileStore
from carousel_server.store.memory import MemoryStore
from carousel_server.store.opening import open_store
from carousel_server.store.redis_place import RedisPlace, redis_place


def opened(url):
    store = open_store(url, ttl_seconds=10)
    store.close()
    return store


def test_memory():
    store = opened("memory")
    assert isinstance(store, MemoryStore)
    assert (store.place, store.shared) == ("memory", False)


@pytest.mark.parametrize("form", ["file:{}", "file://{}"])
def test_a_folder(tmp_path, form):
    store = opened(form.format(tmp_path / "a b"))
    assert isinstance(store, FileStore)
    assert (store.place, store.shared) == (f"file:{tmp_path}/a b", True)


def test_a_folder_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert opened("file:here").place == f"file:{tmp_path}/here"
    assert opened("file:here").place == f"file:{tmp_path}/here"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://h", RedisPlace("h")),
        ("redis://h/", RedisPlace("h")),
        ("redis://h:1/2", RedisPlace("h", 1, 2)),
        ("redis://[::1]:1/2", RedisPlace("::1", 1, 2)),
        ("redis://u@h", RedisPlace("h", user="u")),
        ("redis://:p%40@h", RedisPlace("h", password="p@")),
        ("redis://u:p:q@h", RedisPlace("h", user="u", password="p:q")),
        ("rediss://h", RedisPlace("h", tls=True)),
        (
            "rediss://h?ssl_ca_certs=/a%20b&ssl_certfile=c&ssl_keyfile=d",
            RedisPlace("h", tls=True, ca="/a b", certificate="c", key="d"),
        ),
    ],
)
def test_a_redis(url, place):
    assert redis_place(url) == place
    store = opened(url)
    assert store.shared
    assert store.place == str(place)
    assert redis_place(store.place) == RedisPlace(place.host, place.port, place.db, tls=place.tls)


@pytest.mark.parametrize(
    "url",
    [
        *("redis:", "redis://", "redis:///0", "redis:h", "redis://:6379", "redis://h:x"),
        *("redis://h:70000", "redis://h:0", "redis://h/one", "redis://h/0/1", "redis://h/-1"),
        *("redis://h/0#x", "redis://[::1", "rediss://"),
    ],
)
def test_no_redis(url):
    with pytest.raises(ConfigError, match=r"^--store rediss?: redis://.*HOST:PORT/DB was expected"):
        open_store(url, ttl_seconds=10)


@pytest.mark.parametrize("url", ["redis://h?db=2", "rediss://h?ssl_cert_reqs=none"])
def test_options_that_there_are_not(url):
    with pytest.raises(ConfigError, match="ssl_ca_certs, ssl_certfile, ssl_keyfile were expected"):
        open_store(url, ttl_seconds=10)


def test_certificates_without_tls():
    with pytest.raises(ConfigError, match="rediss://… was expected"):
        open_store("redis://h?ssl_ca_certs=x", ttl_seconds=10)


@pytest.mark.parametrize(
    "url",
    [
        *("", "mem", "memory:", "/var/lib/x", "http://u:hunter2@h", "Redis://:hunter2@h"),
        *(":hunter2@h:6379", "redis://u:hun/ter2@h:1/0", "redis://u:hun#ter2@h:1/0"),
        *("redis://u:hun?ter2@h:1/0", "rediss://h:hunter2"),
    ],
)
def test_nothing_that_there_is(url):
    with pytest.raises(ConfigError, match="expected") as error:
        open_store(url, ttl_seconds=10)
    for secret in ("hun", "ter2"):
        assert secret not in str(error.value)


@pytest.mark.parametrize("url", ["file:", "file://", "file://host/folder"])
def test_no_folder(url):
    with pytest.raises(ConfigError, match=r"a folder .*was expected"):
        open_store(url, ttl_seconds=10)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(ConfigError, match="it can't be used: "):
            open_store(f"file:{tmp_path / path}", ttl_seconds=10)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="it has other files; a folder of its own was expected"):
        open_store(f"file:{tmp_path}", ttl_seconds=10)
    assert [path.name for path in Path(tmp_path).iterdir()] == ["thesis.txt"]


def test_a_folder_of_another_version_is_left_alone(tmp_path):
    (tmp_path / "format").write_text("carousel store 2\n")
    with pytest.raises(ConfigError, match="'format' does not say 'carousel store 1'"):
        open_store(f"file:{tmp_path}", ttl_seconds=10)
