"""TLS: whom the client trusts, and what it shows for itself."""

from __future__ import annotations

import os
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from carousel_client._errors import InvalidInput

#: How often files are looked at for new contents, in seconds.
_LOOK_SECONDS = 1.0

_Path = str | os.PathLike[str]
_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Tls:
    """A connection with TLS, by PEM files.

    `ca` has the authorities one of which has signed the server's certificate; None: those that
    come with gRPC. `cert` and `key` are the client's own certificate and its private key, for
    servers that ask for one. `server_name` is the name that the server's certificate must have;
    empty: the one in the address.

    The files are looked at again when a connection is made: a new certificate needs no restart.
    """

    ca: _Path | None = None
    cert: _Path | None = None
    key: _Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            given, missing = ("cert", "key") if self.key is None else ("key", "cert")
            raise InvalidInput(
                f"Tls has a {given} and no {missing}: a client's certificate takes both"
            )

    @property
    def files(self) -> list[Path]:
        """Those that are given."""
        return [Path(path) for path in (self.ca, self.cert, self.key) if path is not None]

    def credentials(self) -> grpc.ChannelCredentials:
        """Return gRPC's credentials, from what is in the files now. Raises InvalidInput."""
        ca, key, cert = (_contents(path) for path in (self.ca, self.key, self.cert))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except ssl.SSLError as error:
                raise InvalidInput(
                    f"the TLS authorities {self.ca}: certificates in PEM form were expected, and "
                    "it holds none that can be read"
                ) from error
        if self.cert is not None:
            try:
                # A passphrase would be asked for on the terminal.
                context.load_cert_chain(self.cert, self.key, password=lambda: "")
            except OSError as error:
                raise InvalidInput(
                    f"the TLS certificate {self.cert} and the key {self.key}: a certificate and "
                    "its own private key were expected, in PEM form, without a passphrase"
                ) from error
        return grpc.ssl_channel_credentials(ca, key, cert)


class Trust:
    """The credentials of one client, of the files' newest contents that can be used.

    Channels keep what they were made with, so `number` says with which of the credentials one was.
    """

    def __init__(self, tls: Tls | None, credentials: grpc.ChannelCredentials | None) -> None:
        """Read the files. Raises InvalidInput."""
        self._tls = tls
        self._stamp = self._looked()
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._lock = threading.Lock()
        self.credentials = credentials if tls is None else tls.credentials()
        self.number = 0

    def renew(self) -> int:
        """Read the files again if they have changed, and return the credentials' number.

        What can't be read changes nothing: it is looked at again a second later.
        """
        now = time.monotonic()
        if self._tls is None or now < self._look_at:
            return self.number
        with self._lock:
            self._look_at = now + _LOOK_SECONDS
            stamp = self._looked()
            if stamp and stamp != self._stamp:
                try:
                    self.credentials = self._tls.credentials()
                except InvalidInput:
                    return self.number
                self._stamp = stamp
                self.number += 1
            return self.number

    def _looked(self) -> _Stamp:
        """Return what changes with the files' contents; nothing where one can't be seen."""
        try:
            stats = [path.stat() for path in self._tls.files] if self._tls else []
        except OSError:
            return ()
        return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)


def _contents(path: _Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InvalidInput(f"the TLS file {path}: there is no such file") from error
    except OSError as error:
        raise InvalidInput(f"the TLS file {path}: it can't be read: {error.strerror}") from error
