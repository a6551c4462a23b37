"""Finding which axes count rows and steps: every reading of the open axes is tried, best first.

Declared shapes lie, and names are only hints: a reading counts once the graph has run with it, at
several numbers of rows and steps, and its outputs' shapes have followed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import numpy as np

from carousel_exporter.adoption.axes import Axes, ones
from carousel_exporter.adoption.bounds import Values
from carousel_exporter.adoption.options import Size
from carousel_exporter.adoption.ports import Port
from carousel_exporter.adoption.trials import Arrays, Trial, TrialError

#: Open axes that can be told apart by trying; files with more of them have them in states.
_MOST_SYMBOLS: Final = 8
_BATCH_WORDS: Final = re.compile(r"batch|^(b|n|bs|nb)\d*$")
_TIME_WORDS: Final = re.compile(r"time|seq|len|frame|step|chunk|^(t|l|s)\d*$")
#: Sizes that are tried for an axis that counts neither rows nor steps: samples of audio, mostly.
_SIZES: Final = tuple(2**k for k in range(17))


class Role(Enum):
    """What an open axis counts."""

    BATCH = "batch"
    TIME = "time"
    SIZE = "size"


Roles = Mapping[str, Role]


@dataclass(frozen=True)
class Layout:
    """A reading of all axes that the graph ran with.

    `inputs` has the states too. `rows`: whether several rows were run at once; `steps`: whether
    there is a time axis. `sizes` were found by trying; `notes` say how.
    """

    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    rows: bool
    steps: bool
    sizes: tuple[Size, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hints:
    """What is known before trying.

    `states`: inputs that are states for sure, with their batch axis if that is stated. `layered`:
    inputs whose axis 0 counts layers, as those of LSTM operators. `margins`: how much longer than
    a usual size an input is, because of its context.
    """

    states: Mapping[str, int | None]
    layered: frozenset[str]
    margins: Mapping[str, int]


Feed = Callable[[Mapping[str, Axes], int, int], Arrays]


class Search:
    """Tries readings of the axes of a graph. `problems` tells why those before the last failed."""

    def __init__(
        self,
        ports: Sequence[Port],
        trial: Trial,
        values: Values,
        hints: Hints,
        lengths: Port | None = None,
    ) -> None:
        self._ports = ports
        self._trial = trial
        self._values = values
        self._hints = hints
        self._lengths = lengths
        self.problems: list[str] = []

    def layouts(self) -> Iterator[Layout]:
        """Yield layouts that run, the most plausible first; several rows before one."""
        left = list(self._readings())
        for several_rows in (True, False):
            for roles in tuple(left):
                for layout in self._try(roles, several_rows=several_rows):
                    left.remove(roles)
                    yield layout

    def feed(self, inputs: Mapping[str, Axes], rows: int, steps: int) -> Arrays:
        """Draw inputs of a run, states among them, each in its original shape."""
        dtypes = {port.name: port.dtype for port in self._ports}
        feeds = {
            name: self._values.draw(name, dtypes[name], axes.shape(rows, steps))
            for name, axes in inputs.items()
        }
        if self._lengths is not None:
            feeds[self._lengths.name] = _lengths(self._lengths, rows, steps)
        return feeds

    def _readings(self) -> Iterator[Roles]:
        symbols = list(dict.fromkeys(d for p in self._ports for d in p.dims if isinstance(d, str)))
        choices: list[tuple[Role, ...]] = [tuple(Role)] * len(symbols)
        if len(symbols) > _MOST_SYMBOLS:
            choices = [self._forced(symbol) for symbol in symbols]
        if len(list(itertools.islice(itertools.product(*choices), 20_000))) == 20_000:
            return
        readings = [dict(zip(symbols, roles, strict=True)) for roles in itertools.product(*choices)]
        possible = [roles for roles in readings if self._is_possible(roles)]
        yield from sorted(possible, key=self._score, reverse=True)

    def _forced(self, symbol: str) -> tuple[Role, ...]:
        """Let an axis that is its tensor's only open one count rows."""
        alone = [[d for d in p.dims if isinstance(d, str)] == [symbol] for p in self._ports]
        return (Role.BATCH,) if any(alone) else tuple(Role)

    def _is_possible(self, roles: Roles) -> bool:
        if list(roles.values()).count(Role.SIZE) > 1:
            return False
        timed = 0
        for port in self._ports:
            here = [roles[dim] for dim in port.dims if isinstance(dim, str)]
            if here.count(Role.BATCH) > 1 or here.count(Role.TIME) > 1:
                return False
            timed += Role.TIME in here
            if port.name in self._hints.states and not self._fits_state(port, roles):
                return False
        return timed < len(self._ports)  # a state has no time axis, and there is one

    def _fits_state(self, port: Port, roles: Roles) -> bool:
        stated = self._hints.states[port.name]
        for axis, dim in enumerate(port.dims):
            if isinstance(dim, str) and roles[dim] is not Role.BATCH:
                return False
            if isinstance(dim, str) and stated is not None and axis != stated:
                return False
        return True

    def _score(self, roles: Roles) -> int:
        score = 0
        own = {f"{port.name}:{axis}" for port in self._ports for axis in range(port.rank)}
        for symbol, role in roles.items():
            word = "" if symbol in own else symbol.lower()
            hinted = Role.BATCH if _BATCH_WORDS.search(word) else None
            hinted = Role.TIME if hinted is None and _TIME_WORDS.search(word) else hinted
            score += 10 * (role is hinted) - 10 * (hinted is not None and role is not hinted)
            score -= 20 * (role is Role.SIZE)
        batched = [Role.BATCH in [roles.get(str(d)) for d in port.dims] for port in self._ports]
        return score - 3 * batched.count(False) * any(batched)

    def _try(self, roles: Roles, *, several_rows: bool) -> Iterator[Layout]:
        batched = [any(roles.get(str(d)) is Role.BATCH for d in p.dims) for p in self._ports]
        if several_rows and not all(batched):
            return
        for sizes, note in self._sizes(roles):
            inputs = {port.name: self._axes(port, roles, sizes) for port in self._ports}
            steps = Role.TIME in roles.values()
            found = self._observe(inputs, rows=several_rows, steps=steps)
            if found is not None:
                notes = (note,) if note else ()
                yield replace(found, sizes=self._named(sizes), notes=notes)
                return

    def _named(self, sizes: Mapping[str, int]) -> tuple[Size, ...]:
        return tuple(
            Size(port.name, port.dims.index(symbol), size)
            for symbol, size in sizes.items()
            for port in self._ports
            if symbol in port.dims
        )[: len(sizes)]

    def _axes(self, port: Port, roles: Roles, sizes: Mapping[str, int]) -> Axes:
        here = [roles.get(str(dim)) for dim in port.dims]
        time = here.index(Role.TIME) if Role.TIME in here else None
        dims = tuple(sizes.get(d, 1) if isinstance(d, str) else d for d in port.dims)
        if Role.BATCH in here:
            return Axes(dims, here.index(Role.BATCH), time)
        batch = self._hints.states.get(port.name)
        if batch is None:
            free = ones(dims, but=time)
            layered = port.name in self._hints.layered and len(dims) == 3 and len(free) > 1
            batch = next(iter(free[1:] if layered else free), None)
        return Axes(dims, batch, time)

    def _sizes(self, roles: Roles) -> Iterator[tuple[dict[str, int], str]]:
        """Yield the size of an axis that counts neither rows nor steps, if one does."""
        symbol = next((s for s, role in roles.items() if role is Role.SIZE), None)
        if symbol is None:
            yield {}, ""
            return
        port = next(port for port in self._ports if symbol in port.dims)
        margin = self._hints.margins.get(port.name, 0)
        works = [n for n in _SIZES if self._runs(roles, {symbol: n + margin})]
        place = f"axis {port.dims.index(symbol)} of {port.name!r}"
        if not works:
            return
        if works[-1] == _SIZES[-1]:
            axis = port.dims.index(symbol)
            self.problems.append(
                f"{place} is open, counts neither rows nor steps, and any size runs: say which "
                f"with --size {port.name}:{axis}=SIZE"
            )
            return
        size = works[-1] + margin
        behind = f" behind {margin} of context" if margin else ""
        note = (
            f"{place} is open and counts neither rows nor steps: of 1, 2, 4, …{behind}, "
            f"{works[0]} to {works[-1]} ran, and the largest was taken."
        )
        yield {symbol: size}, note

    def _runs(self, roles: Roles, sizes: Mapping[str, int]) -> bool:
        inputs = {port.name: self._axes(port, roles, sizes) for port in self._ports}
        try:
            self._trial.run(self.feed(inputs, 1, 1))
        except TrialError:
            return False
        return True

    def _observe(self, inputs: Mapping[str, Axes], *, rows: bool, steps: bool) -> Layout | None:
        """Run several shapes; None where one fails or outputs follow neither rows nor steps."""
        counts = [(1, 1), (2, 3), (3, 5)]
        counts = [(b if rows else 1, t if steps else 1) for b, t in counts]
        shapes: dict[str, list[tuple[int, ...]]] = {}
        for b, t in dict.fromkeys(counts):
            try:
                found = self._trial.run(self.feed(inputs, b, t))
            except TrialError as error:
                self.problems.append(f"a run of {b} rows and {t} steps failed: {error}")
                return None
            for name, array in found.items():
                shapes.setdefault(name, []).append(array.shape)
        outputs: dict[str, Axes] = {}
        usual = next((a.batch for a in inputs.values() if a.batch is not None), None)
        for name, seen in shapes.items():
            axes = _output_axes(seen, list(dict.fromkeys(counts)))
            if axes is None:
                told = ", ".join(str(list(shape)) for shape in dict.fromkeys(seen))
                self.problems.append(
                    f"output {name!r} has the shapes {told} at {_told(counts)}, which follow "
                    "neither"
                )
                return None
            outputs[name] = axes if rows else _with_one_row(axes, usual)
        return Layout(inputs, outputs, rows, steps)


def _lengths(port: Port, rows: int, steps: int) -> np.ndarray:
    return np.full(rows if port.rank else (), steps, port.dtype)


def _output_axes(
    shapes: Sequence[tuple[int, ...]], counts: Sequence[tuple[int, int]]
) -> Axes | None:
    """Read off which axes followed the rows and the steps; None where one followed neither."""
    if len({len(shape) for shape in shapes}) > 1:
        return None
    batch = time = None
    for axis, sizes in enumerate(zip(*shapes, strict=True)):
        if len(set(sizes)) == 1:
            continue
        if list(sizes) == [b for b, _ in counts] and batch is None:
            batch = axis
        elif list(sizes) == [t for _, t in counts] and time is None:
            time = axis
        else:
            return None
    return Axes(shapes[0], batch, time)


def _with_one_row(axes: Axes, usual: int | None) -> Axes:
    """Guess an output's batch axis where only one row was run: the inputs', or the first of 1."""
    free = ones(axes.dims, but=axes.time)
    if usual in free:
        return replace(axes, batch=usual)
    return replace(axes, batch=free[0] if free else None)


def _told(counts: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{b} x {t}" for b, t in dict.fromkeys(counts)) + " rows x steps"
