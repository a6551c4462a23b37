"""What waits, in all and by stream, and whether more may."""

from __future__ import annotations

from dataclasses import dataclass, field

from carousel_server.engine.batch import StepBatch


@dataclass(slots=True)
class Volume:
    """Rows, steps and bytes of inputs of some messages."""

    rows: int = 0
    steps: int = 0
    bytes: int = 0

    def add(self, batch: StepBatch) -> None:
        """Count a message."""
        self.rows += batch.rows
        self.steps += batch.steps
        self.bytes += batch.nbytes

    def remove(self, batch: StepBatch) -> None:
        """Count a message out again."""
        self.rows -= batch.rows
        self.steps -= batch.steps
        self.bytes -= batch.nbytes


@dataclass(slots=True)
class Backlog:
    """Messages that were taken in and not answered. Used on the event loop alone.

    A stream that has rows waiting may add to them as long as it has no more than what is left for
    the others. So one that sends without end fills half of the queue, two of them a third each, and
    there is room left for whoever sends little (dynamic thresholds: Choudhury and Hahne, 1998).
    """

    max_rows: int
    max_bytes: int
    volume: Volume = field(default_factory=Volume)
    _streams: dict[int, Volume] = field(default_factory=dict)

    def add(self, batch: StepBatch) -> str:
        """Count a message that waits from now on; return why it can't, nothing where it can."""
        all_, own = self.volume, self._streams.get(batch.stream)
        rows, nbytes = self.max_rows - all_.rows, self.max_bytes - all_.bytes
        if batch.rows > rows or batch.nbytes > nbytes:
            return (
                f"{all_.rows} rows with {all_.bytes} bytes are queued; {self.max_rows} rows and "
                f"{self.max_bytes} bytes may be"
            )
        if own is None:
            own = self._streams[batch.stream] = Volume()
        elif own.rows + batch.rows > rows or own.bytes + batch.nbytes > nbytes:
            return (
                f"{own.rows} rows with {own.bytes} bytes of this stream are queued; the room for "
                f"{rows} rows and {nbytes} bytes that is left is for others too"
            )
        all_.add(batch)
        own.add(batch)
        return ""

    def remove(self, batch: StepBatch) -> None:
        """Count a message out that was answered."""
        self.volume.remove(batch)
        own = self._streams[batch.stream]
        own.remove(batch)
        if not own.rows:
            del self._streams[batch.stream]
