"""How ticks go to the device and come back, so that one may be copied while another computes.

A tick alone takes the straight way: inputs to where the run reads them, answers from where it wrote
them, all in one order. A tick that is queued while another one is under way must not touch blocks
that this one uses: its inputs wait in a block of its own till the runs before it are over, and its
answers leave from another one while those behind it run.

    straight   COMPUTE   copy in > run > copy out
    staged     INWARD    copy in                        beside the runs before it
               COMPUTE           > move > run > move
               OUTWARD                              > copy out    beside the runs behind it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from carousel_server.runtime.ondevice.exchange import Arrays, Exchange
from carousel_server.runtime.ondevice.memory import Block, Bytes, Memory, Stream

#: Puts the inputs of launch k where they belong, and returns those that are read on the host.
Fill = Callable[[int, Arrays], "Arrays | None"]
Views = dict[str, NDArray[np.generic]]

_MOST_VIEWS = 64


class Lane:
    """Staging on both sides for one tick at a time; kept, and grown, from tick to tick."""

    def __init__(self, memory: Memory) -> None:
        self.seconds = 0.0  # that the device was at the runs received last; 0: it can't tell
        self._memory = memory
        self._here_in: Bytes = np.zeros(0, np.uint8)
        self._here_out: Bytes = np.zeros(0, np.uint8)
        self._there_in = self._there_out = Block(0, 0, None)
        self._arrived, self._ran, self._done = (memory.event() for _ in range(3))
        self._began, self._ended = (memory.event(timed=True) for _ in range(2))
        self._exchanges: Sequence[Exchange] = ()  # what is under way must not be freed
        self._places_out: list[tuple[int, int]] = []
        # Of ticks of one launch, which most are: making them costs more than filling them. Whoever
        # made an exchange says how long it is kept.
        self._views: WeakKeyDictionary[Exchange, tuple[Views, Views]] = WeakKeyDictionary()

    @property
    def nbytes(self) -> int:
        """Bytes that its blocks take on the device."""
        return self._there_in.nbytes + self._there_out.nbytes

    @property
    def done(self) -> bool:
        """Whether `receive` would not wait."""
        with self._memory.gate.shared():
            return self._memory.passed(self._done)

    def send(self, exchanges: Sequence[Exchange], fill: Fill, *, alone: bool) -> None:
        """Queue a tick: the launches, in order, with the inputs that `fill` gives.

        `alone`: no other tick is under way. Where a launch raises, what was queued is waited for.
        """
        memory, self._exchanges = self._memory, exchanges
        with memory.gate.shared():
            places_in = _cuts([exchange.inputs.nbytes for exchange in exchanges])
            self._places_out = _cuts([exchange.outputs.nbytes for exchange in exchanges])
            self._reserve(places_in[-1][1], self._places_out[-1][1])
            if len(exchanges) == 1:
                on_host = [fill(0, self._only_views(exchanges[0])[0])]
            else:
                on_host = [
                    fill(number, exchange.inputs.views(self._here_in[first:last]))
                    for number, (exchange, (first, last)) in enumerate(
                        zip(exchanges, places_in, strict=True)
                    )
                ]
            try:
                if alone and len(exchanges) == 1:
                    self._straight(exchanges[0], on_host[0])
                else:
                    self._staged(on_host, places_in)
            except BaseException:
                # What was queued is still reading and writing the staging.
                memory.wait_for_all()
                raise

    def receive(self) -> list[Views]:
        """Wait for what was sent; return each launch's outputs, until the lane sends again."""
        with self._memory.gate.shared():
            self._memory.wait(self._done)
            self.seconds = self._memory.seconds(self._began, self._ended)
        exchanges, self._exchanges = self._exchanges, ()
        if len(exchanges) == 1:
            return [self._only_views(exchanges[0])[1]]
        return [
            exchange.outputs.views(self._here_out[first:last])
            for exchange, (first, last) in zip(exchanges, self._places_out, strict=True)
        ]

    def _straight(self, exchange: Exchange, on_host: Arrays | None) -> None:
        memory = self._memory
        memory.record(self._began, Stream.COMPUTE)
        memory.upload(self._here_in[: exchange.inputs.nbytes], exchange.there, Stream.COMPUTE)
        exchange.launch(on_host)
        memory.download(exchange.back, self._here_out[: exchange.outputs.nbytes], Stream.COMPUTE)
        memory.record(self._ended, Stream.COMPUTE)
        memory.record(self._done, Stream.COMPUTE)

    def _staged(
        self, on_host: Sequence[Arrays | None], places_in: Sequence[tuple[int, int]]
    ) -> None:
        memory, size_in, size_out = self._memory, places_in[-1][1], self._places_out[-1][1]
        self._there_in = self._block(self._there_in, size_in)
        self._there_out = self._block(self._there_out, size_out)
        memory.upload(self._here_in[:size_in], self._there_in, Stream.INWARD)
        memory.record(self._arrived, Stream.INWARD)
        memory.hold(Stream.COMPUTE, self._arrived)
        memory.record(self._began, Stream.COMPUTE)
        for exchange, host, (in_, in_end), (out, out_end) in zip(
            self._exchanges, on_host, places_in, self._places_out, strict=True
        ):
            memory.move(self._there_in.part(in_, in_end - in_), exchange.there)
            exchange.launch(host)
            memory.move(exchange.back, self._there_out.part(out, out_end - out))
        memory.record(self._ended, Stream.COMPUTE)
        memory.record(self._ran, Stream.COMPUTE)
        memory.hold(Stream.OUTWARD, self._ran)
        memory.download(self._there_out, self._here_out[:size_out], Stream.OUTWARD)
        memory.record(self._done, Stream.OUTWARD)

    def _reserve(self, bytes_in: int, bytes_out: int) -> None:
        """Have so much staging at least, for what goes in and what comes out."""
        if bytes_in > len(self._here_in) or bytes_out > len(self._here_out):
            self._views.clear()
            self._here_in = self._staging(self._here_in, bytes_in)
            self._here_out = self._staging(self._here_out, bytes_out)

    def _only_views(self, exchange: Exchange) -> tuple[Views, Views]:
        """Return the inputs and outputs of a tick of one launch, by name."""
        views = self._views.get(exchange)
        if views is None:
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            views = self._views[exchange] = (
                exchange.inputs.views(self._here_in[: exchange.inputs.nbytes]),
                exchange.outputs.views(self._here_out[: exchange.outputs.nbytes]),
            )
        return views

    def _staging(self, bytes_: Bytes, needed: int) -> Bytes:
        if needed <= len(bytes_):
            return bytes_
        return self._memory.staging(max(needed, 2 * len(bytes_)))

    def _block(self, block: Block, needed: int) -> Block:
        if needed <= block.nbytes:
            return block
        return self._memory.block(max(needed, 2 * block.nbytes))


class Lanes:
    """The lanes of one model: as many as there were ever ticks under way at once."""

    def __init__(self, memory: Memory) -> None:
        self.overlapped = 0  # runs that were queued while another one was under way
        self._memory = memory
        self._lanes: list[Lane] = []
        self._free: list[Lane] = []

    @property
    def nbytes(self) -> int:
        """Bytes that their blocks take on the device."""
        return sum(lane.nbytes for lane in self._lanes)

    def send(self, exchanges: Sequence[Exchange], fill: Fill) -> Lane:
        """Queue a tick on a lane that is free; `give` it back when its outputs were read."""
        alone = len(self._free) == len(self._lanes)
        if not self._free:
            with self._memory.gate.shared():
                lane = Lane(self._memory)
            self._lanes.append(lane)
        else:
            lane = self._free.pop()
        try:
            lane.send(exchanges, fill, alone=alone)
        except BaseException:
            self._free.append(lane)
            raise
        self.overlapped += not alone
        return lane

    def give(self, lane: Lane) -> None:
        """Take a lane back."""
        self._free.append(lane)

    def close(self) -> None:
        """Forget the lanes, none of which is at anything any more."""
        self._lanes, self._free = [], []


def _cuts(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return where pieces of some sizes begin and end when they lie end to end."""
    return list(pairwise([0, *accumulate(sizes)]))
