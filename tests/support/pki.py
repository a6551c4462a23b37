"""Authorities and certificates for tests, made when they are needed."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

HERE = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM form."""

    cert: bytes
    key: bytes

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write `tls.crt` and `tls.key`, each as a whole, and return their paths."""
        return replace(folder / "tls.crt", self.cert), replace(folder / "tls.key", self.key)


class Authority:
    """Signs certificates."""

    def __init__(self, name: str = "authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        now = datetime.now(UTC)
        builder = _builder(self._name, self._key.public_key(), now + timedelta(days=2))
        builder = builder.issuer_name(self._name)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        self.cert = _pem(builder.sign(self._key, hashes.SHA256()))

    def pair(
        self,
        *names: str,
        ends: datetime | None = None,
        kind: str = "ec",
        subject: str = "somebody",
    ) -> Pair:
        """Return a certificate for these DNS names and IP addresses; for this machine if none."""
        key = (
            rsa.generate_private_key(65537, 2048)
            if kind == "rsa"
            else ec.generate_private_key(ec.SECP256R1())
        )
        ends = ends or datetime.now(UTC) + timedelta(days=1)
        builder = _builder(_name(subject), key.public_key(), ends).issuer_name(self._name)
        builder = builder.add_extension(
            x509.SubjectAlternativeName(_alternatives(names or HERE)), False
        )
        return Pair(_pem(builder.sign(self._key, hashes.SHA256())), key_pem(key))

    def credentials(self, pair: Pair | None = None) -> grpc.ChannelCredentials:
        """Return gRPC's credentials of a client that trusts this authority."""
        if pair is None:
            return grpc.ssl_channel_credentials(self.cert)
        return grpc.ssl_channel_credentials(self.cert, pair.key, pair.cert)


def key_pem(key, passphrase: bytes = b"") -> bytes:
    """Return a private key as a file has it."""
    encryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)


def replace(path: Path, content: bytes) -> Path:
    """Write a file so that it is there as a whole, or not at all; return its path."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)
    return path


def _builder(subject: x509.Name, key, ends: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=3))
        .not_valid_after(ends)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    return [_alternative(name) for name in names]


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
