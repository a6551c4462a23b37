"""Redis as it is: restarted, stopped, full, behind a password and TLS."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading

import pytest

from carousel_server.store.interface import Held, Record, StoreUnavailable
from carousel_server.store.opening import open_store
from carousel_server.store.redis import RedisStore
from carousel_server.store.redis_place import redis_place
from tests.server.store.conftest import TTL
from tests.server.store.some import HEADER, A, B, at, create, load, save, saves, steps
from tests.support.redis import needed_tool, run_redis

SECRET = "s3cr/t@:#% \u00fc"
QUOTED = "s3cr%2Ft%40%3A%23%25%20%C3%BC"


@pytest.fixture
def own_redis(tmp_path):
    """A Redis for this test alone, which keeps what it acknowledged."""
    with run_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as running:
        yield running


@pytest.fixture
def make_store():
    made = []

    def make(running, **options) -> RedisStore:
        place = redis_place(running.url)
        made.append(RedisStore(place, ttl_seconds=TTL, **options))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(running_redis, make_store) -> RedisStore:
    with running_redis.client() as client:
        client.flushall()
    return make_store(running_redis)


def test_what_is_in_redis_is_as_documented(store, running_redis):
    store.renew(A, 10)
    create(store, A, "x", "y")
    save(store, A, "x", 1, at(10, b"\0\xff"))
    save(store, A, "x", 1, at(5, b"m"), -1, "here")
    store.delete(["y"], [1])
    with running_redis.client() as client:
        assert sorted(client.keys()) == [
            b"carousel:server:aaaa",
            b"carousel:session:x",
            b"carousel:session:y",
        ]
        record = client.hgetall("carousel:session:x")
        assert record.pop(b"header").startswith(b'{"model": ')
        assert record == {
            b"owner": b"aaaa",
            b"address": b"10.0.0.1:8001",
            b"token": b"1",
            b"c:10": b"\0\xff",
            b"m:here": b"\5\0\0\0\0\0\0\0m",
        }
        assert client.hgetall("carousel:session:y") == {b"gone": b"1"}
        assert 0 < client.pttl("carousel:session:x") <= TTL * 1000
        assert 0 < client.pttl("carousel:server:aaaa") <= 10_000


def test_records_may_stay_for_ever(running_redis, store):
    for_ever = RedisStore(redis_place(running_redis.url), ttl_seconds=0)
    create(for_ever, A, "x")
    for_ever.delete(["x"], [1])
    create(for_ever, A, "x")
    save(for_ever, A, "x", 2, at(1))
    with running_redis.client() as client:
        assert client.pttl("carousel:session:x") == -1
    for_ever.close()


@pytest.mark.parametrize(
    "damage",
    [{"header": "{"}, {"header": "[]"}, {"header": "{}"}, {"c:x": "1"}, {"m:a": "1"}],
)
def test_a_damaged_record_is_a_lost_one(store, running_redis, damage):
    create(store, A, "x")
    with running_redis.client() as client:
        client.hset("carousel:session:x", mapping=damage)
    assert store.load(["x", "y"]) == [None, None]
    assert store.claim(["x"], A) == [None]


def test_something_else_under_our_key_is_said(store, running_redis):
    with running_redis.client() as client:
        client.set("carousel:session:x", "a string")
    with pytest.raises(StoreUnavailable, match=r"refused: .*WRONGTYPE"):
        create(store, A, "x")


def test_a_restart_goes_unnoticed_and_keeps_what_was_acknowledged(own_redis, make_store):
    ours, theirs = make_store(own_redis), make_store(own_redis)
    create(ours, A, "x", "y")
    theirs.renew(B, 1000)
    for step in range(1, 50):
        assert save(ours, A, "x", 1, at(step), 0)
    own_redis.kill()
    own_redis.start()
    assert steps(ours, "x") == list(range(1, 50))
    assert theirs.claim(["x"], B) == [load(ours, "x")]
    assert not save(ours, A, "x", 1, at(50))
    own_redis.kill()
    own_redis.start()
    assert ours.claim(["x"], A) == [Held("x", B)]


def test_what_redis_forgot_is_written_again(running_redis, store):
    """It was started anew with nothing: the scripts are unknown to it too."""
    ids = [f"s{number}" for number in range(300)]
    create(store, A, *ids)
    with running_redis.client() as client:
        client.flushall()
        client.script_flush()
    rows = [(name, 1, at(7, name.encode()), 0) for name in ids]
    rows[3:3] = [("s3", 1, at(6, b"before"), 0)]
    assert store.save(saves(*rows), A) == [True] * 301
    found = store.load(ids)
    assert found[299] == Record("s299", HEADER, 1, (at(7, b"s299"),))
    assert found[3] == Record("s3", HEADER, 1, (at(6, b"before"), at(7, b"s3")))


def test_nobody_is_there(own_redis, make_store):
    store = make_store(own_redis)
    create(store, A, "x")
    own_redis.kill()
    with pytest.raises(StoreUnavailable, match=r"redis://127\.0\.0\.1:\d+/0 can't be reached"):
        save(store, A, "x", 1, at(1))
    own_redis.start()
    assert save(store, A, "x", 1, at(1))


def test_a_redis_that_hangs_is_given_up(own_redis, make_store):
    """And its late answer is not taken for that to the next question."""
    store = make_store(own_redis, timeout_seconds=0.2)
    create(store, A, "x")
    with own_redis.stopped():
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.2 s"):
            store.load(["x"])
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.2 s"):
            create(store, A, "y")
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.2 s"):
            make_store(own_redis, timeout_seconds=0.2).renew(A, 1)
    assert save(store, A, "x", 1, at(1))
    assert store.claim(["nobody"], A) == [None]
    assert create(store, A, "y") in ([1], [2])  # 2: it was carried out, and went unanswered


def test_a_full_redis_says_so(tmp_path, make_store):
    with run_redis(tmp_path, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as running:
        store = make_store(running)
        with pytest.raises(StoreUnavailable, match=r"refused: .*maxmemory"):  # noqa: PT012
            for number in range(100):
                create(store, A, f"s{number}")
                save(store, A, f"s{number}", 1, at(1, bytes(100_000)))
        assert store.delete([f"s{number}" for number in range(10)], [1] * 10) == [True] * 10
        store.renew(A, 1)


def test_a_replica_says_so(running_redis, store):
    with running_redis.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(StoreUnavailable, match=r"refused: .*replica"):
                create(store, A, "x")
        finally:
            client.replicaof("NO", "ONE")


def test_threads_that_race_for_sessions(running_redis, make_store, store):
    ids = [f"s{number}" for number in range(600)]
    create(store, A, *ids)
    start = threading.Barrier(4)
    won: dict[str, list[str]] = {}

    def take(server):
        ours = make_store(running_redis)
        owner = type(A)(server, "")
        ours.renew(owner, 60)
        start.wait()
        found = ours.claim(ids, owner)
        kept = ours.save(saves(*[(name, 2, at(5)) for name in ids]), owner)
        won[server] = [r.id for r in found if isinstance(r, Record)]
        assert won[server] == [name for name, ok in zip(ids, kept, strict=True) if ok]

    threads = [threading.Thread(target=take, args=[f"{number:x}"]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for names in won.values() for name in names) == sorted(ids)


def test_a_password(tmp_path, caplog, capsys):
    with run_redis(tmp_path, password=SECRET) as running:
        url = f"127.0.0.1:{running.port}/3"
        store = open_store(f"redis://:{QUOTED}@{url}", ttl_seconds=TTL)
        assert create(store, A, "x") == [1]
        store.close()
        user = open_store(f"redis://default:{QUOTED}@{url}", ttl_seconds=TTL)
        assert user.load(["x"]) == [Record("x", HEADER, 1, ())]
        user.close()
        assert store.place == user.place == f"redis://{url}"
        assert SECRET not in repr(vars(store)["place"])
        for wrong in (":wrong@", "", f"nobody:{QUOTED}@"):
            refused = open_store(f"redis://{wrong}{url}", ttl_seconds=TTL)
            with pytest.raises(StoreUnavailable) as error:
                refused.load(["x"])
            assert str(error.value).startswith(f"redis://{url} ")
            for secret in (SECRET, QUOTED, "wrong"):
                assert secret not in str(error.value)
            refused.close()
    assert SECRET not in caplog.text + "".join(capsys.readouterr())


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for "localhost" that is its own authority, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *(needed_tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return folder / "cert.pem"


def test_tls(tmp_path, certificate, make_store):
    key = certificate.with_name("key.pem")
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    options = (*files, "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "optional")
    with run_redis(tmp_path, *options, password="pw", certificate=certificate) as running:
        store = make_store(running)
        assert create(store, A, "x") == [1]
        assert store.place == f"rediss://localhost:{running.port}/0"

        def refused(url, why):
            other = open_store(url, ttl_seconds=TTL)
            with pytest.raises(StoreUnavailable, match=why):
                other.load(["x"])
            other.close()

        # An unknown authority, another name than the certificate's, no TLS.
        refused(f"rediss://:pw@localhost:{running.port}/0", "CERTIFICATE_VERIFY_FAILED")
        ca = f"?ssl_ca_certs={certificate}"
        refused(f"rediss://:pw@127.0.0.1:{running.port}/0{ca}", "CERTIFICATE_VERIFY_FAILED")
        refused(f"redis://:pw@localhost:{running.port}/0", "can't be reached")


def test_redis_demands_a_certificate(tmp_path, certificate):
    key = certificate.with_name("key.pem")
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    options = (*files, "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "optional")
    with run_redis(tmp_path, *options, certificate=certificate) as running:
        with running.client() as client:
            client.config_set("tls-auth-clients", "yes")
        url = f"rediss://localhost:{running.port}/0?ssl_ca_certs={certificate}"
        without = open_store(url, ttl_seconds=TTL)
        with pytest.raises(StoreUnavailable):
            without.load(["x"])
        without.close()
        ours = open_store(f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}", ttl_seconds=TTL)
        assert ours.load(["x"]) == [None]
        ours.close()


def test_a_missing_certificate_file_is_said(tmp_path):
    store = open_store(
        f"rediss://localhost:1/0?ssl_ca_certs={tmp_path / 'none.pem'}", ttl_seconds=TTL
    )
    with pytest.raises(StoreUnavailable):
        store.load(["x"])
    store.close()


def test_redis_is_imported_only_where_it_is_used():
    script = (
        "import sys; from carousel_server.store.opening import open_store;"
        "open_store('memory', ttl_seconds=1); print('redis' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert told.stdout == "False\n"


def test_the_tests_need_redis(monkeypatch):
    """Where it is missing they say so, and on CI fail."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="redis-server is not installed"):
        needed_tool("redis-server")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="redis-server is not installed"):
        needed_tool("redis-server")
