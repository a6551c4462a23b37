"""Where the process stands: who it is, whether it is ready, whether it is going down."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from carousel_server.errors import Draining


def _random_id() -> int:
    return secrets.randbits(64) or 1


@dataclass(slots=True)
class Lifecycle:
    """Set by `app.py`, read by servicers and probes; on the event loop, or where a race is fine."""

    server_id: int = field(default_factory=_random_id)  # never 0: that is a message's default
    ready: bool = False
    draining: bool = False

    def refuse_when_draining(self) -> None:
        """Take nothing new when the server is going down.

        Raises:
            Draining: it is.

        """
        if self.draining:
            raise Draining
