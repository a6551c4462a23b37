"""What can go wrong, in the server's own words; `rpc/status.py` alone knows what gRPC calls it.

CarouselError
├── InvalidRequest      what was expected and what came
├── ModelNotFound       no such model or version, and the ones there are
│   └── ModelUnloaded   the version was there: a newer one has taken its place
├── SessionNotFound     no such session
│   └── SessionExpired  it was there: since when it is not, and by which rule
├── SessionExists       the id is taken
├── NoRoom              a limit is reached, and when to try again
├── Draining            the server is going down
├── SessionsMoved       living servers have the sessions, and which
├── StoreAway           the store does not answer
├── TakeOverWaits       the store has not answered for long enough to take sessions over
├── SnapshotMismatch    a snapshot that is not of this model, or was changed
├── ModelFileError      a model file that can't be served, and why
├── DeviceError         the device asked for is not there
└── RunError            the model failed while it ran
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

_SHOWN = 128


def shown(name: str) -> str:
    """Return a name as messages show it: quoted, and cut where it is longer than any may be."""
    return repr(name) if len(name) <= _SHOWN else repr(name[:_SHOWN]) + "..."


class CarouselError(Exception):
    """Base of everything that the server refuses or fails at, in words for the one who asked."""

    retry_after_ms = 0  # when the same may be asked again; 0: not said


class InvalidRequest(CarouselError):
    """The request can't be carried out by anybody: it says what was expected and what came."""


class ModelNotFound(CarouselError):
    """No model of that name and version is loaded."""

    def __init__(self, name: str, version: str, known: Sequence[str]) -> None:
        wanted = f"{name}/{version}" if version else name
        there = ", ".join(known[:20]) if known else "none"
        more = f" and {len(known) - 20} more" if len(known) > 20 else ""
        super().__init__(f"no model {shown(wanted)} here; there are: {there}{more}")
        self.model = wanted


class ModelUnloaded(ModelNotFound):
    """The version went while it was being asked for: it had no sessions any more."""

    def __init__(self, name: str) -> None:
        CarouselError.__init__(
            self, f"model {shown(name)} was unloaded a moment ago; ask for a newer version"
        )
        self.model = name


class SessionNotFound(CarouselError):
    """No session has that id."""

    def __init__(self, ids: Sequence[str], reason: str = "no such session here") -> None:
        some = ", ".join(map(shown, ids[:5]))
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        super().__init__(f"{reason}: {some}{more}")
        self.ids = list(ids)


class SessionExpired(SessionNotFound):
    """The session was there, and was idle for too long."""

    def __init__(self, name: str, *, at: float, rule: str) -> None:
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
        super().__init__([name], f"the session expired at {when} ({rule})")
        self.at = at
        self.rule = rule


class SessionExists(CarouselError):
    """A session of that id is open."""

    def __init__(self, name: str) -> None:
        super().__init__(f"a session {name!r} is open already; attach to it, or choose another id")
        self.id = name


class NoRoom(CarouselError):
    """A limit is reached; the same request may be accepted later."""

    def __init__(self, message: str, *, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Draining(CarouselError):
    """The server is going down and takes nothing new."""

    def __init__(self) -> None:
        super().__init__("the server is going down and takes no new work; try another one")


class SessionsMoved(CarouselError):
    """Living servers have the sessions; `places` says which: (id, address)."""

    def __init__(self, places: Sequence[tuple[str, str]]) -> None:
        name, address = places[0]
        more = f", and {len(places) - 1} more sessions elsewhere" if len(places) > 1 else ""
        where = address or "another server, which gave no address for itself (--advertise)"
        super().__init__(f"session {shown(name)} is at {where}{more}")
        self.places = list(places)


class StoreAway(CarouselError):
    """The store of sessions does not answer; `place` is where it is, without secrets."""

    retry_after_ms = 500

    def __init__(self, place: str) -> None:
        super().__init__(f"the store of sessions, {place}, does not answer; try again")


class TakeOverWaits(CarouselError):
    """Sessions can't be taken over yet: their server may live, and be about to say so."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"sessions can be taken over when the store has answered for {seconds:g} s; try again"
        )
        self.retry_after_ms = max(1, round(seconds * 1000 / 4))


class SnapshotMismatch(CarouselError):
    """A snapshot that can't be restored here; the message names the field that differs."""

    def __init__(self, message: str, *, damaged: bool) -> None:
        super().__init__(message)
        self.damaged = damaged  # its bytes are wrong, and not what they speak of


class ModelFileError(CarouselError):
    """A model file that can't be served."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


class ConfigError(CarouselError):
    """A setting is missing or wrong."""


class DeviceError(CarouselError):
    """The device asked for is not there."""


class RunError(CarouselError):
    """The model failed while it ran; no state was written."""
