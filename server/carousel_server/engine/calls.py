"""Control calls that wait for their turn behind the rows of their sessions."""

from __future__ import annotations

from functools import partial

from carousel_server.engine.controls import Call, Delivery
from carousel_server.engine.sessions import Sessions
from carousel_server.errors import CarouselError


class Calls:
    """The calls of one engine, in the order they came. Whoever has its turn calls it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._waiting: list[Call] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take_in(self, call: Call) -> list[Delivery]:
        """Give a call its place behind all that came before; return what is to be said of it."""
        try:
            call.entries = call.control.prepare(self._sessions)
        except CarouselError as error:
            return [partial(call.reply, error)]
        call.tickets = self._sessions.table.draw(call.entries)
        self._waiting.append(call)
        return []

    def run(self) -> list[Delivery]:
        """Carry out the calls whose turn it is; return their results, one for each."""
        table = self._sessions.table
        waiting: list[Call] = []
        deliveries: list[Delivery] = []
        for call in self._waiting:
            if not (table.head[call.entries] == call.tickets).all():
                waiting.append(call)
                continue
            try:
                result = call.control.run(self._sessions)
            except CarouselError as error:
                result = error
            table.finish(call.entries)
            deliveries.append(partial(call.reply, result))
        self._waiting = waiting
        return deliveries
