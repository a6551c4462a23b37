"""Text from a pipe, as the steps of a model that takes text."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import typer

import carousel_client as carousel
from carousel_client._vocabulary import Scan, Vocabulary, name
from carousel_client.cli._common import InputError
from carousel_client.cli._rows import BadLine, ByteSource, read

# The most symbols that are sent at a time, unless the user says otherwise.
_CHUNK = 1024


class Place(NamedTuple):
    """A place in a text, both from 1."""

    line: int = 1
    character: int = 1

    def after(self, text: str) -> Place:
        """Return the place behind a text that begins here."""
        *above, last = text.split("\n")
        if above:
            return Place(self.line + len(above), len(last) + 1)
        return Place(self.line, self.character + len(last))

    def __str__(self) -> str:
        return f"line {self.line}, character {self.character}"


@dataclass
class TextSource:
    """Steps read from text, a symbol each, sent as soon as it is clear which symbol it is."""

    model: carousel.ModelInfo
    vocabulary: Vocabulary
    chunk: int | None
    skip_bad: bool
    as_json: bool = False
    _place: Place = field(default_factory=Place)
    _awaited: deque[tuple[Place, str]] = field(default_factory=deque)  # each symbol's place

    def chunks(self, source: ByteSource) -> Iterator[Any]:
        """Yield chunks of symbols, (T,), with T at most the chunk's size.

        Raises InputError; BadLine for an unknown character, unless these are to be skipped.
        """
        size, dtype = self.chunk or _CHUNK, self.model.inputs[0].dtype
        for text, found in self._runs(source):
            at = 0
            for begin in range(0, len(found.ids), size):
                ids = found.ids[begin : begin + size]
                for number, end in zip(ids, found.ends[begin : begin + size], strict=True):
                    self._awaited.append((self._place, self.vocabulary.symbols[number]))
                    self._place, at = self._place.after(text[at:end]), end
                yield np.array(ids, dtype)

    def where(self) -> str:
        """Return the beginning of a message: where the first symbol is that awaits its answer."""
        return f"{self._awaited[0][0]}: " if self._awaited else ""

    def symbols(self, steps: int) -> Sequence[str]:
        """Return the first so many symbols that await their answers."""
        return [symbol for _, symbol in (self._awaited[step] for step in range(steps))]

    def over(self, steps: int) -> None:
        """Note that the first so many symbols were answered, or left out."""
        for _ in range(steps):
            self._awaited.popleft()

    def _runs(self, source: ByteSource) -> Iterator[tuple[str, Scan]]:
        """Yield pieces of the text, and their symbols, as many at a time as are there and known."""
        rest = ""
        for piece, more in self._pieces(source):
            rest += piece
            while rest:
                found = self.vocabulary.scan(rest, more=more)
                yield rest, found
                rest = rest[found.end :]
                if not found.stuck:
                    break
                self._skip(rest[0])
                rest = rest[1:]

    def _pieces(self, source: ByteSource) -> Iterator[tuple[str, bool]]:
        """Yield what was read, as soon as it is there, and whether more may come."""
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        more = True
        while more:
            data = read(source, self._place.line)
            more = bool(data)
            try:
                yield decoder.decode(data, final=not more), more
            except UnicodeDecodeError as error:
                yield error.object[: error.start].decode(), False
                raise InputError(f"what follows on {self._place} is not UTF-8 text") from None

    def _skip(self, character: str) -> None:
        problem = BadLine(f"{self._place}: {name(character)} {self.vocabulary.lacks}")
        if not self.skip_bad:
            raise problem
        typer.echo(f"carousel: skipped: {problem}", err=True)
        self._place = self._place.after(character)
