"""What happened when sessions went from one server to another."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class FailoverEvent:
    """Sessions lost their server, or left one that goes down, and go on.

    `sessions` is how many, `sources` and `targets` the addresses they left and came to (the same
    where a connection broke and came back), `seconds` how long it took from when the client noticed
    to when all that was lost had been made up for, and `replayed` how many steps were sent again.
    """

    sessions: int
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    seconds: float
    replayed: int

    def __str__(self) -> str:
        from_, to = " and ".join(self.sources), " and ".join(self.targets)
        where = f"again at {to}" if self.sources == self.targets else f"from {from_} to {to}"
        number = f"{self.sessions:,} session{'s' * (self.sessions != 1)}"
        steps = f"{self.replayed:,} step{'s' * (self.replayed != 1)}"
        return f"{number} went on {where} after {self.seconds:.3f} s; {steps} sent again"


@dataclass(slots=True)
class Failover:
    """A failover that is not over yet; `since` is when somebody began to wait."""

    since: float
    sessions: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    targets: set[str] = field(default_factory=set)
    replayed: int = 0

    def event(self, now: float) -> FailoverEvent:
        """Return what happened, now that it is over."""
        return FailoverEvent(
            sessions=len(self.sessions),
            sources=tuple(sorted(self.sources)),
            targets=tuple(sorted(self.targets)),
            seconds=now - self.since,
            replayed=self.replayed,
        )
