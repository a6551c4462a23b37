"""Following the certificate's files: a new one is used for new connections, without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import Gauge

from carousel_server import log
from carousel_server.certificates import Certificate, CertificateFiles
from carousel_server.errors import ConfigError

# Seconds between looks. They are not a setting: a certificate that is renewed and not taken ends
# the service some weeks later, and looking costs next to nothing.
_LOOK_SECONDS = 2.0


class Rotation:
    """Looks at the files again and again; what can't be used changes nothing but the log."""

    def __init__(
        self,
        files: CertificateFiles,
        now: Certificate,
        use: Callable[[Certificate], None],
        gauge: Gauge,
    ) -> None:
        """Follow `files`, of which `now` is in use, and give new ones to `use`."""
        self._files = files
        self._now = now
        self._use = use
        self._gauge = gauge
        self._asked = asyncio.Event()
        self._failed = ""  # why the last look found nothing to use
        self._told = ""  # what of that was logged
        gauge.set(now.ends)
        about = {"file": str(files.chain), "ends": now.when}
        if now.ended:
            log.get().warning("the certificate has ended: clients will refuse it", **about)
        else:
            log.get().info("serving with TLS", client_certificates=bool(now.client_ca), **about)

    def look_now(self) -> None:
        """Look at once, and not only when it is time."""
        self._asked.set()

    async def run(self) -> None:
        """Follow the files until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - the certificate in use stays
                log.get().exception("the certificate can't be followed")

    async def look(self) -> None:
        """Look once, and use what is new and good."""
        try:
            found = await asyncio.to_thread(self._files.read)
            if found == self._now:
                self._failed = self._told = ""
                return
            if found.ended:
                raise ConfigError(f"--tls-cert {self._files.chain}: it ended at {found.when}")
        except ConfigError as error:
            self._refuse(str(error))
            return
        self._failed = self._told = ""
        self._now = found
        self._use(found)
        self._gauge.set(found.ends)
        log.get().info("certificate renewed", file=str(self._files.chain), ends=found.when)

    def _refuse(self, why: str) -> None:
        """Log once why the files can't be used, if two looks saw the same: they change in turn."""
        if why == self._failed and why != self._told:
            log.get().error("certificate refused, the old one stays", why=why, ends=self._now.when)
            self._told = why
        self._failed = why
