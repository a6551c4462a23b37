"""The kinds of recurrent layers, and where PyTorch and ONNX lay the same numbers out differently.

PyTorch's layers are described at https://docs.pytorch.org/docs/stable/nn.html#recurrent-layers,
ONNX's operators at https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Cell:
    """A kind of recurrent layer.

    `name` is what it is called on the command line and in a network's keys; `title` names ONNX's
    operator, PyTorch's module and what people call it, all in one. `gates` counts the blocks of H
    rows in a weight, and `onnx_gates` says which of PyTorch's blocks stands at each of ONNX's
    places. `has_cell_state` tells whether there is a c beside h. `biased_to_keep` is the place of
    PyTorch's gate that keeps the old state where it is open, if there is one, and `biased_to_enter`
    that of a gate of its own which lets the new in.
    """

    name: str
    title: str
    onnx_gates: tuple[int, ...]
    has_cell_state: bool = False
    biased_to_keep: int | None = None
    biased_to_enter: int | None = None
    attributes: Mapping[str, int] = field(default_factory=dict)

    @property
    def gates(self) -> int:
        """Blocks of H rows in a weight."""
        return len(self.onnx_gates)


#: PyTorch: i, f, g, o. ONNX: i, o, f, c (its c is g).
LSTM: Final = Cell(
    "lstm", "LSTM", (0, 3, 1, 2), has_cell_state=True, biased_to_keep=1, biased_to_enter=0
)
#: PyTorch: r, z, n. ONNX: z, r, h (its h is n). PyTorch's reset gate acts on R h + b, after the
#: product with R; ONNX's does so with linear_before_reset=1 alone, and is another network with 0.
GRU: Final = Cell("gru", "GRU", (1, 0, 2), biased_to_keep=1, attributes={"linear_before_reset": 1})
RNN: Final = Cell("rnn", "RNN", (0,))

CELLS: Final[Mapping[str, Cell]] = {cell.name: cell for cell in (LSTM, GRU, RNN)}
#: What nn.RNN can be told to squash with, and what ONNX calls it.
NONLINEARITIES: Final[Mapping[str, str]] = {"tanh": "Tanh", "relu": "Relu"}
