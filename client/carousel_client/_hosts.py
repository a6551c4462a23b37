"""Servers as a client knows them: one host is one process, for as long as it lives.

A process that starts again at the same address is another host: it has none of the handles.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carousel_client._models import ServerInfo
from carousel_client._packing import Load, Room

if TYPE_CHECKING:
    from carousel_client._block import Roster
    from carousel_client._sent import Sent

#: What chunks must have in common to share a message, other than their host.
Kind = tuple[str, str, float | None, bool]


@dataclass(slots=True, eq=False)
class Host:
    """A server process: where it is, what it takes, and what is on its way to it."""

    number: int  # within its client, from 0
    address: str
    info: ServerInfo
    room: Room
    #: A stream to it is open.
    online: bool = False
    #: Its stream broke: ask who is there before anything is sent.
    doubted: bool = False
    #: Another process answers at its address, so it is out of reach, or dead.
    gone: bool = False
    #: It takes no more, as far as is known; and for good, because it said that it goes down.
    draining: bool = False
    leaving: bool = False
    sent: dict[int, Sent] = field(default_factory=dict)  # by request id
    ready: dict[Kind, deque[Roster]] = field(default_factory=dict)
    load: dict[str, Load] = field(default_factory=dict)  # what is on its way, by model
    #: The shell's: what carries messages there.
    lane: Any = None

    @property
    def poor(self) -> bool:
        """Whether nothing can be sent there before somebody has looked who is there."""
        return self.doubted or self.gone
