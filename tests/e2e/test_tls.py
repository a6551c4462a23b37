"""TLS between real servers and clients: who gets in, and certificates that change meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509

import carousel_client as carousel
from tests.support.pki import Authority, Pair, replace
from tests.support.server import RunningServer, run_server

TICK = np.ones(2, np.float32)
_SECONDS = 30


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, authority):
    """What clients have: the authority, a certificate of its own, and one of a stranger's."""
    folder = tmp_path_factory.mktemp("client")
    stranger = Authority("stranger")
    replace(folder / "ca.crt", authority.cert)
    replace(folder / "strange-ca.crt", stranger.cert)
    authority.pair(subject="client").write(folder)
    (folder / "strange").mkdir()
    stranger.pair(subject="client").write(folder / "strange")
    return folder


def trusting(folder: Path, **more) -> carousel.Tls:
    return carousel.Tls(ca=folder / "ca.crt", **more)


def known(folder: Path) -> carousel.Tls:
    return trusting(folder, cert=folder / "tls.crt", key=folder / "tls.key")


@contextmanager
def secure_server(
    repository: Path, place: Path, pair: Pair, *flags: str, client_ca: bytes = b""
) -> Iterator[RunningServer]:
    """Run a server with TLS whose files are in a folder."""
    place.mkdir(exist_ok=True)
    cert, key = pair.write(place)
    flags += ("--tls-cert", str(cert), "--tls-key", str(key))
    if client_ca:
        flags += ("--tls-client-ca", str(replace(place / "ca.crt", client_ca)))
    with run_server(repository, *flags, log=place / "log") as running:
        yield running


@pytest.fixture(scope="module")
def server(repository, tmp_path_factory, authority):
    """One that asks nobody who they are."""
    place = tmp_path_factory.mktemp("open")
    with secure_server(repository, place, authority.pair("carousel.example", "127.0.0.1")) as made:
        yield made


@pytest.fixture(scope="module")
def strict(repository, tmp_path_factory, authority):
    """One that asks clients for certificates."""
    place = tmp_path_factory.mktemp("strict")
    with secure_server(repository, place, authority.pair(), client_ca=authority.cert) as made:
        yield made


def refused(address: str, tls: carousel.Tls | None) -> str:
    with (
        pytest.raises(carousel.Unavailable) as caught,
        carousel.connect(address, timeout=0.5, tls=tls),
    ):
        pass
    return str(caught.value)


def steps(address: str, tls: carousel.Tls | None) -> list[float]:
    with carousel.connect(address, tls=tls) as client, client.open("sum") as session:
        return session.step(TICK).tolist()


def shown(server: RunningServer) -> bytes:
    """Return the certificate that a server shows to who connects now."""
    host, port = server.address.split(":")
    text = ssl.get_server_certificate((host, int(port)), timeout=10)
    return text.encode()


def until(condition, what: str) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what} did not come about"
        time.sleep(0.05)


# Who gets in


def test_a_client_that_trusts_the_servers_authority_gets_in(server, folder):
    assert steps(server.address, trusting(folder)) == [1, 1]


async def test_the_same_for_asyncio(server, folder):
    async with (
        carousel.aio.connect(server.address, tls=trusting(folder)) as client,
        client.open("sum") as session,
    ):
        assert (await session.step(TICK)).tolist() == [1, 1]


def test_a_client_that_does_not_stays_out(server, folder):
    strange = carousel.Tls(ca=folder / "strange-ca.crt")
    assert "CERTIFICATE_VERIFY_FAILED" in refused(server.address, strange)


def test_a_client_without_tls_stays_out(server):
    assert "no server at" in refused(server.address, None)


def test_a_client_with_tls_does_not_talk_to_a_server_without(repository, folder, tmp_path):
    with run_server(repository, log=tmp_path / "log") as plain:
        assert "no server at" in refused(plain.address, trusting(folder))


def test_the_name_is_checked(server, folder):
    port = server.address.rpartition(":")[2]
    by_name = f"localhost:{port}"  # which is not in the certificate
    assert refused(by_name, trusting(folder))
    right = trusting(folder, server_name="carousel.example")
    assert steps(by_name, right) == [1, 1]
    assert refused(server.address, trusting(folder, server_name="other.example"))


def test_old_versions_of_tls_are_refused(server, folder):
    host, port = server.address.split(":")
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.check_hostname = False
    spoken = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((host, int(port)), 10) as plain,
            context.wrap_socket(plain) as secure,
        ):
            spoken.append(secure.version())
    assert spoken == ["TLSv1.2", "TLSv1.3"]


def test_clients_are_asked_who_they_are(strict, folder):
    assert steps(strict.address, known(folder)) == [1, 1]
    assert refused(strict.address, trusting(folder)), "no certificate"
    strange = trusting(
        folder, cert=folder / "strange" / "tls.crt", key=folder / "strange" / "tls.key"
    )
    assert refused(strict.address, strange), "a certificate that somebody else has signed"


def test_the_command_line_takes_the_same(strict, folder):
    program = [sys.executable, "-c", "from carousel_client.cli import main; main()"]
    flags = ["--address", strict.address, "--tls-server-name", "localhost"]
    variables = {
        "CAROUSEL_TLS_CA": folder / "ca.crt",
        "CAROUSEL_TLS_CERT": folder / "tls.crt",
        "CAROUSEL_TLS_KEY": folder / "tls.key",
    }
    done = subprocess.run(
        [*program, *flags, "models", "--json"],
        env=os.environ | {name: str(path) for name, path in variables.items()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sum" in {model["name"] for model in json.loads(done.stdout)}


def test_when_the_certificate_ends_is_a_metric(server):
    with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=10) as page:
        text = page.read().decode()
    (line,) = (
        line
        for line in text.splitlines()
        if line.startswith("carousel_tls_certificate_expiry_timestamp_seconds ")
    )
    ends = x509.load_pem_x509_certificate(shown(server)).not_valid_after_utc
    assert float(line.split()[1]) == ends.timestamp()


# How it starts


def test_with_tls_other_machines_may_reach_it_unasked(repository, tmp_path, authority, folder):
    flags = ("--address", "0.0.0.0:0", "--metrics-address", "0.0.0.0:0")
    with secure_server(repository, tmp_path / "open", authority.pair(), *flags) as server:
        port = server.address.rpartition(":")[2]
        assert steps(f"127.0.0.1:{port}", trusting(folder)) == [1, 1]
        metrics = server.http.rpartition(":")[2]
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/readyz", timeout=10) as page:
            assert page.status == 200


def test_what_cannot_be_served_with_ends_the_start_with_a_sentence(repository, tmp_path, authority):
    mixed = Pair(authority.pair().cert, authority.pair().key)
    with (
        pytest.raises(AssertionError, match=r"carousel-server: --tls-key .* it is not the key of"),
        secure_server(repository, tmp_path / "mixed", mixed),
    ):
        pass


# Certificates that change


class Stepping:
    """A session that is stepped all the time, each answer checked."""

    def __init__(self, address: str, tls: carousel.Tls) -> None:
        self.steps = 0
        self.failovers = []
        self._end = threading.Event()
        self._error: BaseException | None = None
        self._client = carousel.connect(
            address, tls=tls, reconnect=False, on_failover=self.failovers.append
        )
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Stepping:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._client.close()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            session = self._client.open("sum")
            while not self._end.is_set():
                assert session.step(TICK).tolist() == [self.steps + 1] * 2
                self.steps += 1
                time.sleep(0.001)
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            self._error = error


def test_certificates_are_exchanged_under_a_live_stream(repository, tmp_path, authority, folder):
    """A new pair by another authority, for servers and clients; then one that can't be used."""
    place = tmp_path / "server"
    old, other = authority.pair(), Authority("other")
    new = other.pair()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    replace(theirs / "ca.crt", other.cert)
    other.pair(subject="client").write(theirs)
    with (
        secure_server(repository, place, old, client_ca=authority.cert) as server,
        Stepping(server.address, known(folder)) as stepping,
    ):
        assert shown(server) == old.cert
        assert refused(server.address, known(theirs))

        replace(place / "ca.crt", other.cert)
        new.write(place)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: shown(server) == new.cert, "the new certificate")
        assert steps(server.address, known(theirs)) == [1, 1]
        assert refused(server.address, known(folder)), "its authority is trusted no more"

        replace(place / "tls.key", old.key)
        until(lambda: "certificate refused" in server.log_text(), "the refusal")
        assert shown(server) == new.cert
        assert steps(server.address, known(theirs)) == [1, 1]

        before = stepping.steps
        until(lambda: stepping.steps > before + 10, "more steps of the old stream")
        assert stepping.failovers == []
        events = [json.loads(line)["event"] for line in server.log_text().splitlines()]
        assert events.count("certificate renewed") == 1
        assert events.count("certificate refused, the old one stays") == 1


def test_a_clients_new_certificate_is_used_when_it_connects_again(repository, tmp_path, authority):
    """A client that lives for longer than its certificate is not started again for that."""
    other = Authority("other")
    mine = tmp_path / "mine"
    mine.mkdir()
    replace(mine / "ca.crt", authority.cert)
    authority.pair(subject="client").write(mine)
    place = tmp_path / "server"
    store = ("--store", f"file:{tmp_path / 'store'}", "--lease-seconds", "0.5")
    with secure_server(
        repository, place, authority.pair(), *store, client_ca=authority.cert
    ) as first:
        client = carousel.connect(first.address, tls=known(mine))
        session = client.open("sum")
        assert session.step(TICK).tolist() == [1, 1]
        first.stop()
    other.pair(subject="client").write(mine)
    replace(mine / "ca.crt", other.cert)
    again = ("--address", first.address, *store)
    with client, secure_server(repository, place, other.pair(), *again, client_ca=other.cert):
        assert session.step(TICK).tolist() == [2, 2]
