"""The server's certificate, and the authorities of its clients': read from files, and checked."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from carousel_server.errors import ConfigError
from carousel_server.settings import Settings
from carousel_server.x509 import not_after

_ATTEMPTS = 3  # at reading files that somebody is just writing
# What OpenSSL calls a key of another certificate: of the same kind, and of another kind.
_OTHER_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files' contents that go together."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    ends: float  # seconds since 1970

    def __repr__(self) -> str:
        return f"Certificate(ends={self.when})"  # the key is in no log

    @property
    def when(self) -> str:
        """When it ends, for people."""
        return datetime.fromtimestamp(self.ends, UTC).isoformat(timespec="seconds")

    @property
    def ended(self) -> bool:
        """Whether clients refuse it by now."""
        return self.ends <= time.time()


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where a certificate is."""

    chain: Path
    key: Path
    client_ca: Path | None

    @classmethod
    def of(cls, settings: Settings) -> CertificateFiles | None:
        """Return the files that the settings name, if they ask for TLS."""
        if settings.tls_cert is None or settings.tls_key is None:
            return None
        return cls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)

    def contents(self) -> tuple[bytes, ...]:
        """Return what is in the files.

        Raises:
            ConfigError: one can't be read; the message names it.

        """
        named = [("cert", self.chain), ("key", self.key)]
        if self.client_ca is not None:
            named.append(("client-ca", self.client_ca))
        return tuple(_contents(flag, path) for flag, path in named)

    def read(self) -> Certificate:
        """Return the certificate, once it is sure that all of it goes together.

        Raises:
            ConfigError: a file is missing, or not what it should be, or the key is another's.

        """
        for _ in range(_ATTEMPTS):
            before = self.contents()
            found = self._check(*before)
            if self.contents() == before:  # so what was checked by its path is what was read
                return found
        raise ConfigError(f"--tls-cert {self.chain}: the files change while they are read")

    def _check(self, chain: bytes, key: bytes, client_ca: bytes | None = None) -> Certificate:
        _check_certificates("cert", self.chain, chain)
        if client_ca is not None:
            _check_certificates("client-ca", self.client_ca, client_ca)
        try:
            # A passphrase would be asked for on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self.chain, self.key, password=lambda: ""
            )
        except OSError as error:
            raise ConfigError(self._why(error)) from error
        try:
            return Certificate(chain, key, client_ca, not_after(chain))
        except ValueError as error:
            raise ConfigError(f"--tls-cert {self.chain}: {error}") from error

    def _why(self, error: OSError) -> str:
        if isinstance(error, ssl.SSLError) and error.reason in _OTHER_KEY:
            return f"--tls-key {self.key}: it is not the key of --tls-cert {self.chain}"
        return (
            f"--tls-key {self.key}: it holds no private key in PEM form that can be read without "
            "a passphrase"
        )


def _contents(flag: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"--tls-{flag} {path}: there is no such file") from error
    except OSError as error:
        raise ConfigError(f"--tls-{flag} {path}: it can't be read: {error.strerror}") from error


def _check_certificates(flag: str, path: Path | None, pem: bytes) -> None:
    try:
        # Words may stand between certificates; latin-1 reads any, and ASCII alone is taken.
        text = pem.decode("latin-1").encode("ascii", "replace").decode()
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"--tls-{flag} {path}: certificates in PEM form were expected, and it holds none that "
            "can be read"
        ) from error
