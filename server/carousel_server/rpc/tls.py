"""The server's side of TLS, with a certificate that can change while connections are open."""

from __future__ import annotations

import grpc

from carousel_server.certificates import Certificate


class Credentials:
    """Credentials of a port: those who connect get the certificate of that moment.

    Whether clients are asked for certificates is decided once; which authorities must have signed
    those changes along with the server's own certificate. Connections that are open stay as they
    are.
    """

    def __init__(self, certificate: Certificate) -> None:
        self._now = self._given = _configuration(certificate)
        self.credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            self._now,
            self._changed,  # type: ignore[arg-type]  # None: nothing has changed
            require_client_authentication=certificate.client_ca is not None,
        )

    def use(self, certificate: Certificate) -> None:
        """Show another certificate from now on."""
        self._now = _configuration(certificate)

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what is new since the last call; on gRPC's threads, before each handshake.

        It may be given twice where it changes just now, and is never left out.
        """
        now = self._now
        if now is self._given:
            return None
        self._given = now
        return now


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificate.key, certificate.chain)], certificate.client_ca
    )
