"""Which networks and ticks are measured, and what each of them costs at least."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

FEATURES, OUTPUTS = 16, 1

#: Bytes of a number in a product, by `--math`; tf32 is stored as float32.
WIDTHS = {"float32": 4, "tf32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True, order=True)
class Network:
    """An LSTM of `layers` layers of `hidden` units over 16 features, and a linear answer."""

    hidden: int
    layers: int

    @property
    def weights(self) -> int:
        """How many numbers its matrices have."""
        sizes = [FEATURES, *[self.hidden] * (self.layers - 1)]
        return sum(4 * self.hidden * (size + self.hidden) for size in sizes) + self.hidden * OUTPUTS

    @property
    def state_bytes(self) -> int:
        """Bytes of one session's h and c."""
        return 2 * self.layers * self.hidden * 4


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """A tick of `rows` sessions, `steps` steps each."""

    network: Network
    rows: int
    steps: int

    def moved(self, math: str) -> int:
        """Bytes that must move: weights once, states read and written, inputs and answers."""
        states = 2 * self.rows * self.network.state_bytes
        values = self.rows * self.steps * (FEATURES + OUTPUTS) * 4
        return self.network.weights * WIDTHS[math] + states + values

    @property
    def operations(self) -> int:
        """Multiplications and additions of the products."""
        return 2 * self.rows * self.steps * self.network.weights


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device does at its best: bytes a second (read and written), operations a second."""

    copy: float
    matrix: float

    def floor(self, case: Case, math: str) -> float:
        """Return the seconds that a tick takes at least."""
        return max(case.moved(math) / self.copy, case.operations / self.matrix)


# The most telling ones first, in each: time may run out. First the usual ones, then the extremes,
# then what lies between.
_HIDDEN = (128, 512, 64, 1024, 2048, 256)
_LAYERS = (2, 1, 4, 3)
_TICKS = (
    # Single steps: what a lone session waits for, a busy server's tick, and how far it goes.
    *((256, 1), (1, 1), (1024, 1), (16_384, 1)),
    # Chunks: where they begin to pay, and the longest.
    *((64, 8), (64, 64), (1, 64), (1024, 8)),
    # Between these.
    *((16, 1), (4096, 1), (1, 8), (1024, 64)),
)
_SMALL_TICKS = ((1, 1), (16, 1), (4, 3))


def networks(*, small: bool) -> list[Network]:
    """Return the networks, those first that matter most: a measurement may run out of time."""
    if small:
        return [Network(64, 1), Network(32, 3)]
    return [Network(hidden, layers) for layers, hidden in product(_LAYERS, _HIDDEN)]


def cases(network: Network, *, small: bool) -> list[Case]:
    """Return the ticks of a network, (rows, steps), those first that tell most."""
    ticks = _SMALL_TICKS if small else _TICKS
    return [Case(network, rows, steps) for rows, steps in ticks]
