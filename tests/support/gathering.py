"""What an engine on the bench gathers, and a store's answers by hand."""

from __future__ import annotations

from carousel_server.engine.checkpoints import Gathered, Kept
from carousel_server.engine.transfers import Acknowledge
from tests.support.bench import Bench, Reply


class ByHand:
    """Keeps what it is given until a test says what becomes of it."""

    def __init__(self) -> None:
        self.has_room = True
        self.waiting: list[tuple[Gathered, Kept | None]] = []

    def keep(self, gathered: Gathered, then: Kept | None = None) -> None:
        self.waiting.append((gathered, then))

    @property
    def steps(self) -> list[dict[str, int]]:
        """What waits: the steps of each gathering by session."""
        return [dict(zip(g.ids, g.steps.tolist(), strict=True)) for g, _ in self.waiting]

    def answer(self, bench: Bench, kept: list[bool] | None = None) -> Reply:
        """Have the store answer what waits longest; without `kept` it has taken all."""
        gathered, then = self.waiting.pop(0)
        return self.acknowledge(bench, gathered, kept, then)

    def acknowledge(
        self,
        bench: Bench,
        gathered: Gathered,
        kept: list[bool] | None = None,
        then: Kept | None = None,
    ) -> Reply:
        """Have the engine told of what became of something gathered."""
        kept = [True] * len(gathered.ids) if kept is None else kept
        reply = bench.call(Acknowledge(gathered, kept, then))
        bench.turn()
        return reply
