"""What a recurrent graph made by others may look like, as a small value that can be drawn."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final, Literal

import numpy as np

#: Cells that are one operator of ONNX, and what each carries.
OPERATORS: Final = {
    "lstm": "hc",
    "gru": "h",
    "gru_reset_first": "h",  # linear_before_reset = 0
    "rnn_tanh": "h",
    "rnn_relu": "h",
}
#: The same cells out of plain operators, which exist in every width of float.
PLAIN: Final = {"plain_lstm": "hc", "plain_gru": "h", "plain_rnn": "h"}
CELLS: Final = OPERATORS | PLAIN

#: How sizes of the batch are declared, and whether rows may share a run in truth.
BATCHES: Final = {
    "any": True,  # declared dynamic, under one name
    "unnamed": True,  # the inputs' batch has no name, and the outputs' shapes are unknown
    "one": False,  # declared 1, and a Reshape holds it there
    "says_any_fails": False,
    "says_any_mixes": False,  # runs at any size, and every row sees the mean of all
    "says_one_takes_any": True,
}

Form = Literal["step", "time_major", "batch_first"]
Naming = Literal["out", "torch", "past_present", "n", "unrelated"]
Inputs = Literal["features", "tokens", "two", "rate"]

FEATURES: Final = 3
ANSWERS: Final = 2
HIDDEN: Final = 4
TOKENS: Final = 7
#: What the input `rate` must be for the answers to be right.
RATE: Final = 16000


@dataclass(frozen=True)
class Recipe:
    """One graph.

    `layout` has an axis string for each kind of state, h and c, or one for both. Its letters are B
    batch, H hidden, L layers, K kinds (h, c), N layers times kinds, and 1 for an axis of that size;
    layers and kinds without a letter are states of their own. `steps` is the declared length of the
    time axis, 0 for any. `square`: inputs and answers are as wide as a state. `extras` are
    other states and outputs; see `build`.
    """

    cell: str = "lstm"
    layers: int = 1
    layout: tuple[str, ...] = ("LBH",)
    form: Form = "step"
    steps: int = 0
    batch: str = "any"
    names: Naming = "out"
    dtype: str = "float32"
    inputs: Inputs = "features"
    extras: frozenset[str] = field(default_factory=frozenset)
    square: bool = False
    opset: int = 17

    @property
    def kinds(self) -> str:
        """The letters of what the cell carries: "h" or "hc"."""
        return CELLS[self.cell]

    @property
    def features(self) -> int:
        """How wide x is, a row and step."""
        return HIDDEN if self.square else FEATURES

    @property
    def answers(self) -> int:
        """How wide y is, a row and step."""
        return HIDDEN if self.square else ANSWERS

    @property
    def batches(self) -> bool:
        """Whether rows may share a run in truth."""
        return BATCHES[self.batch]

    @property
    def kind(self) -> np.dtype[np.generic]:
        """The floats' type."""
        return np.dtype(self.dtype)

    def layout_of(self, kind: str) -> str:
        """Return the axis string of the state that holds a kind."""
        return self.layout[self.kinds.index(kind) if len(self.layout) > 1 else 0]

    def __str__(self) -> str:
        """Return what differs from the plainest recipe."""
        plain = Recipe()
        parts = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value == getattr(plain, each.name):
                continue
            if value is True:
                value = each.name
            if isinstance(value, (tuple, frozenset)):
                value = "+".join(sorted(value) if isinstance(value, frozenset) else value)
            parts.append(f"{each.name}{value}" if isinstance(value, int) else str(value))
        return "-".join(parts) or "plain"
