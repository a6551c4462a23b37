"""A request on its way, and what answers to it do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from carousel.v1 import sessions_pb2 as pb
from carousel_client._answers import decode, decode_one, each_row, one_row, pick
from carousel_client._block import Block
from carousel_client._columns import Ints, column, starts
from carousel_client._errors import ServerError
from carousel_client._outcomes import settle, settle_one, settle_whole
from carousel_client._packing import Flight


class Sent:
    """The flights of one message, in its order, and which of its rows are unanswered, `(N,)`."""

    def __init__(self, flights: Sequence[Flight], size: int) -> None:
        self.flights = flights
        self.size = size
        self.asked: Ints = column([flight.takes for flight in flights])  # (N,)
        self.waiting = np.ones(len(self.asked), np.bool_)
        self._ends = list(accumulate([len(flight.rows) for flight in flights]))

    def take(self, response: pb.StepResponse) -> Iterator[tuple[Block, Ints]]:
        """Take in an answer, and yield the rows of blocks that the server had no room for.

        Raises ServerError where the answer makes no sense.
        """
        if len(self.asked) == 1:
            return self._take_one(response)
        if not (response.rows or response.status) and len(self.flights) == len(self.asked):
            return self._take_all(response)
        return self._take_some(response)

    def _take_all(self, response: pb.StepResponse) -> Iterator[tuple[Block, Ints]]:
        """Take in that all rows went well, of which each is of another block: most answers."""
        answer = decode(response, self.asked, self.flights[0].block.roster.model)
        self._mark(answer.rows)
        for flight, found in zip(self.flights, each_row(answer), strict=True):
            if not settle_whole(flight.block, int(flight.rows[0]), found):
                settle_one(flight.block, int(flight.rows[0]), found, "")
        yield from ()

    def unanswered(self) -> Iterator[tuple[Flight, Ints]]:
        """Yield each flight and those of its rows that nothing was said about."""
        for end, flight in zip(self._ends, self.flights, strict=True):
            yield flight, flight.rows[self.waiting[end - len(flight.rows) : end]]

    def _take_one(self, response: pb.StepResponse) -> Iterator[tuple[Block, Ints]]:
        flight = self.flights[0]
        found = decode_one(response, int(self.asked[0]), flight.block.roster.model)
        self._mark(0)
        note = response.errors[0].message if response.errors else ""
        if settle_one(flight.block, int(flight.rows[0]), found, note):
            yield flight.block, flight.rows

    def _take_some(self, response: pb.StepResponse) -> Iterator[tuple[Block, Ints]]:
        answer = decode(response, self.asked, self.flights[0].block.roster.model)
        self._mark(answer.rows)
        notes = {note.row: note.message for note in response.errors}
        begins = starts(answer.lengths)
        owners = np.searchsorted(self._ends, answer.rows, side="right")  # (n,)
        for index in np.unique(owners).tolist():
            flight, mine = self.flights[index], np.flatnonzero(owners == index)
            if len(flight.rows) == 1:
                found = one_row(answer, int(mine[0]), int(begins[mine[0]]))
                note = notes.get(int(answer.rows[mine[0]]), "")
                busy = flight.rows[
                    : int(settle_one(flight.block, int(flight.rows[0]), found, note))
                ]
            else:
                part = answer if len(self.flights) == 1 else pick(answer, mine)
                first = self._ends[index] - len(flight.rows)
                busy = settle(flight.block, flight.rows[part.rows - first], part, notes)
            if len(busy):
                yield flight.block, busy

    def _mark(self, rows: Ints | int) -> None:
        if not self.waiting[rows].all():
            raise ServerError("the server answered a row twice", code="INTERNAL")
        self.waiting[rows] = False
