"""Certificates: read from files, checked, and exchanged while the server runs."""

from __future__ import annotations

import asyncio
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from structlog.testing import capture_logs

from carousel_server.certificates import CertificateFiles
from carousel_server.errors import ConfigError
from carousel_server.rotation import Rotation
from carousel_server.settings import load_settings
from carousel_server.x509 import not_after
from tests.support.pki import Authority, Pair, key_pem, replace


@pytest.fixture(scope="module")
def authority():
    return Authority()


def files(folder, pair: Pair, client_ca: bytes | None = None) -> CertificateFiles:
    chain, key = pair.write(folder)
    ca = None if client_ca is None else replace(folder / "ca.crt", client_ca)
    return CertificateFiles(chain, key, ca)


# When a certificate ends. RFC 5280 has two forms of a date: up to 2049, and from then on.


@given(
    ends=st.datetimes(datetime(1951, 1, 1), datetime(9999, 12, 31)),
    names=st.lists(st.from_regex(r"[a-z]{1,60}", fullmatch=True), max_size=5),
)
def test_the_end_of_a_certificate_is_what_another_library_reads(authority, ends, names):
    ends = ends.replace(microsecond=0, tzinfo=UTC)
    pair = authority.pair(*names, ends=ends)
    read = x509.load_pem_x509_certificate(pair.cert).not_valid_after_utc
    assert not_after(pair.cert) == read.timestamp() == ends.timestamp()


def test_a_certificate_of_the_first_version_has_one_field_less(tmp_path):
    request, key, cert = (tmp_path / name for name in ("request", "key", "cert"))
    run = [
        f"openssl req -newkey rsa:2048 -nodes -keyout {key} -out {request} -subj /CN=old",
        f"openssl x509 -req -in {request} -signkey {key} -out {cert} -days 7",
    ]
    for command in run:
        subprocess.run(command.split(), check=True, capture_output=True)
    read = x509.load_pem_x509_certificate(cert.read_bytes())
    assert not_after(cert.read_bytes()) == read.not_valid_after_utc.timestamp()
    if read.version is not x509.Version.v1:
        pytest.skip("this openssl makes no certificates of the first version")


def test_the_first_certificate_of_a_chain_counts(authority):
    soon, late = (authority.pair(ends=datetime(year, 1, 1, tzinfo=UTC)) for year in (2040, 2060))
    words = b"subject=somebody, who is called J\xc3\xbcrgen\n"
    assert not_after(words + soon.cert + late.cert) == datetime(2040, 1, 1, tzinfo=UTC).timestamp()


@given(st.data())
def test_whatever_is_in_a_file_has_an_answer_or_a_sentence(authority, data):
    pem = bytearray(authority.pair().cert)
    begin = pem.index(b"\n") + 1
    at = data.draw(st.integers(begin, begin + 200))
    pem[at : at + 1] = data.draw(st.binary(max_size=3))
    said = ""
    try:
        not_after(bytes(pem))
    except ValueError as error:
        said = str(error)
    assert said in (
        "",
        "its first certificate can't be read",
        "it holds no certificate in PEM form",
    )


# What can be used


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_good_pair_is_read(tmp_path, authority, kind):
    ends = (datetime.now(UTC) + timedelta(days=5)).replace(microsecond=0)
    pair = authority.pair(kind=kind, ends=ends)
    found = files(tmp_path, pair, authority.cert).read()
    assert (found.chain, found.key, found.client_ca) == (pair.cert, pair.key, authority.cert)
    assert found.ends == ends.timestamp()
    assert not found.ended
    assert pair.key.decode() not in repr(found)
    assert str(pair.key) not in repr(found)


def test_what_is_wrong_with_files_is_said(tmp_path, authority):
    good, other = authority.pair(), authority.pair()
    cert, key, ca = (tmp_path / name for name in ("tls.crt", "tls.key", "ca.crt"))
    locked = key_pem(ec.generate_private_key(ec.SECP256R1()), b"secret")
    damaged = good.cert.replace(b"\n", b"\nAAAA", 1)
    no_certificate = "certificates in PEM form were expected, and it holds none that can be read"
    no_key = "it holds no private key in PEM form that can be read without a passphrase"
    not_its_key = f"it is not the key of --tls-cert {cert}"
    ours = authority.cert
    cases = [
        (None, good.key, ours, f"--tls-cert {cert}: there is no such file"),
        (good.cert, None, ours, f"--tls-key {key}: there is no such file"),
        (good.cert, good.key, None, f"--tls-client-ca {ca}: there is no such file"),
        (b"", good.key, ours, f"--tls-cert {cert}: {no_certificate}"),
        (good.key, good.key, ours, f"--tls-cert {cert}: {no_certificate}"),
        (damaged, good.key, ours, f"--tls-cert {cert}: {no_certificate}"),
        (good.cert, b"", ours, f"--tls-key {key}: {no_key}"),
        (good.cert, b"\xff\0", ours, f"--tls-key {key}: {no_key}"),
        (good.cert, locked, ours, f"--tls-key {key}: {no_key}"),
        (good.cert, other.key, ours, f"--tls-key {key}: {not_its_key}"),
        (good.cert, authority.pair(kind="rsa").key, ours, f"--tls-key {key}: {not_its_key}"),
        (good.cert, good.key, b"", f"--tls-client-ca {ca}: {no_certificate}"),
        (good.cert, good.key, b"J\xfc", f"--tls-client-ca {ca}: {no_certificate}"),
    ]
    for *contents, sentence in cases:
        for path, content in zip((cert, key, ca), contents, strict=True):
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            CertificateFiles(cert, key, ca).read()
        assert str(caught.value) == sentence


def test_a_folder_is_no_file(tmp_path, authority):
    chain, _ = authority.pair().write(tmp_path)
    with pytest.raises(ConfigError, match=r"--tls-key .*: it can't be read: Is a directory"):
        CertificateFiles(chain, tmp_path, None).read()


# Settings


def refusal(**flags) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings({"models": "/models", **flags}, None)
    return str(caught.value)


def test_tls_is_asked_for_as_a_whole():
    assert refusal(tls_cert="c") == "--tls-cert is given and --tls-key is not: TLS takes both"
    assert refusal(tls_key="k") == "--tls-key is given and --tls-cert is not: TLS takes both"
    assert refusal(tls_client_ca="ca").startswith("--tls-client-ca asks clients for certificates")


@pytest.mark.parametrize("name", ["address", "metrics_address"])
def test_with_tls_other_machines_may_reach_the_server(name):
    address = {name: "0.0.0.0:8005"}
    assert "give --tls-cert and --tls-key, or say --insecure" in refusal(**address)
    settings = load_settings({"models": "/m", "tls_cert": "c", "tls_key": "k", **address}, None)
    assert not settings.insecure
    found = CertificateFiles.of(settings)
    assert (str(found.chain), str(found.key), found.client_ca) == ("c", "k", None)


def test_without_tls_there_are_no_files():
    assert CertificateFiles.of(load_settings({"models": "/m"}, None)) is None


# Exchange


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Followed:
    """Files, and what a Rotation makes of them."""

    def __init__(self, folder, pair: Pair) -> None:
        self.folder = folder
        self.used = []
        self.registry = CollectorRegistry()
        where = files(folder, pair)
        gauge = Gauge("ends", "Ends", registry=self.registry)
        self.rotation = Rotation(where, where.read(), self.used.append, gauge)

    @property
    def ends(self) -> float:
        return self.registry.get_sample_value("ends")


@pytest.fixture
async def followed(tmp_path, authority):
    return Followed(tmp_path, authority.pair(ends=datetime(2040, 1, 1, tzinfo=UTC)))


async def test_nothing_new_changes_nothing(followed):
    with capture_logs() as logs:
        await followed.rotation.look()
    assert (followed.used, logs) == ([], [])
    assert followed.ends == datetime(2040, 1, 1, tzinfo=UTC).timestamp()


async def test_a_new_pair_is_used_and_told_of(followed, authority):
    new = authority.pair(ends=datetime(2041, 1, 1, tzinfo=UTC))
    new.write(followed.folder)
    with capture_logs() as logs:
        await followed.rotation.look()
        await followed.rotation.look()
    assert [found.chain for found in followed.used] == [new.cert]
    assert followed.ends == datetime(2041, 1, 1, tzinfo=UTC).timestamp()
    assert [line["event"] for line in logs] == ["certificate renewed"]


async def test_a_pair_that_does_not_match_is_refused_once_it_stays(followed, authority):
    """Between the exchange of one file and the other they never match: not worth a word."""
    new = authority.pair()
    replace(followed.folder / "tls.crt", new.cert)
    with capture_logs() as logs:
        await followed.rotation.look()
        assert logs == []
        for _ in range(3):
            await followed.rotation.look()
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("certificate refused, the old one stays", "error")
    ]
    assert "is not the key of" in logs[0]["why"]
    assert followed.used == []
    assert followed.ends == datetime(2040, 1, 1, tzinfo=UTC).timestamp()
    replace(followed.folder / "tls.key", new.key)
    await followed.rotation.look()
    assert [found.key for found in followed.used] == [new.key]


async def test_a_pair_that_has_ended_is_refused(followed, authority):
    authority.pair(ends=datetime.now(UTC) - timedelta(hours=1)).write(followed.folder)
    with capture_logs() as logs:
        await followed.rotation.look()
        await followed.rotation.look()
    assert "it ended at" in logs[0]["why"]
    assert followed.used == []


async def test_a_missing_file_is_refused(followed):
    (followed.folder / "tls.key").unlink()
    with capture_logs() as logs:
        await followed.rotation.look()
        await followed.rotation.look()
    assert logs[0]["why"].endswith("there is no such file")
    assert followed.used == []


async def test_one_that_ended_before_the_start_is_served_with_a_warning(tmp_path, authority):
    with capture_logs() as logs:
        Followed(tmp_path, authority.pair(ends=datetime.now(UTC) - timedelta(hours=1)))
    assert logs[0]["event"] == "the certificate has ended: clients will refuse it"


async def test_it_looks_by_itself_and_when_asked(followed, authority, monkeypatch):
    monkeypatch.setattr("carousel_server.rotation._LOOK_SECONDS", 3600)
    new = authority.pair()
    new.write(followed.folder)
    following = asyncio.create_task(followed.rotation.run())
    followed.rotation.look_now()
    await until(lambda: followed.used)
    following.cancel()
    monkeypatch.setattr("carousel_server.rotation._LOOK_SECONDS", 0.01)
    authority.pair().write(followed.folder)
    following = asyncio.create_task(followed.rotation.run())
    await until(lambda: len(followed.used) == 2)
    following.cancel()


async def test_what_goes_wrong_unforeseen_ends_nothing(followed, monkeypatch):
    monkeypatch.setattr("carousel_server.rotation._LOOK_SECONDS", 0.01)
    looks = []

    async def look():
        looks.append(1)
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(followed.rotation, "look", look)
    with capture_logs() as logs:
        following = asyncio.create_task(followed.rotation.run())
        await until(lambda: len(looks) == 2)
    following.cancel()
    assert logs[0]["event"] == "the certificate can't be followed"
