"""ONNX's recurrent operators: what a node says, and one step of it written out in small operators.

The equations are those of https://onnx.ai/onnx/operators/; gates lie in ONNX's order. Products
with constants are Gemm and MatMul, which is what there is to be quantised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import onnx
from onnx import helper

from carousel_exporter.precision.nodes import Nodes

#: Blocks of H rows in the weights, and activations that are written out; the first by default.
GATES: Final[Mapping[str, int]] = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ACTIVATIONS: Final[Mapping[str, list[tuple[str, ...]]]] = {
    "LSTM": [("Sigmoid", "Tanh", "Tanh")],
    "GRU": [("Sigmoid", "Tanh")],
    "RNN": [("Tanh",), ("Relu",)],
}
_KNOWN: Final = {"direction", "hidden_size", "activations", "linear_before_reset", "layout"}
#: The gates that are computed together: a name, and which of ONNX's blocks.
_BLOCKS: Final[Mapping[str, Mapping[str, tuple[int, ...]]]] = {
    "LSTM": {"iof": (0, 1, 2), "c": (3,)},
    "GRU": {"zr": (0, 1), "n": (2,)},
    "RNN": {"all": (0,)},
}
_BIAS, _LENGTHS, _FIRST_H, _FIRST_C, _PEEPHOLES = 3, 4, 5, 6, 7


@dataclass(frozen=True)
class Cell:
    """A recurrent node: `W` (F, G, H), `R` (H, G, H), and biases `Wb`, `Rb` (G, H)."""

    node: onnx.NodeProto
    activations: tuple[str, ...]
    linear_before_reset: bool
    W: np.ndarray
    R: np.ndarray
    Wb: np.ndarray
    Rb: np.ndarray

    @property
    def kind(self) -> str:
        """LSTM, GRU or RNN."""
        return str(self.node.op_type)

    @property
    def hidden(self) -> int:
        """H."""
        return int(self.R.shape[0])

    @property
    def lengths(self) -> str:
        """The name of the rows' lengths; "" where all rows have all steps."""
        return _input(self.node, _LENGTHS)

    @property
    def first(self) -> list[str]:
        """Names of the states that the node begins with, (1, B, H) each."""
        places = (_FIRST_H, _FIRST_C) if self.kind == "LSTM" else (_FIRST_H,)
        return [_input(self.node, place) for place in places]

    @property
    def bounded(self) -> bool:
        """Whether h stays between -1 and 1."""
        return self.activations[-1] == "Tanh"


def read_cell(node: onnx.NodeProto, constants: Mapping[str, np.ndarray]) -> Cell | str:
    """Return what a recurrent node says, or why its equations aren't written out."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    known = _ACTIVATIONS[node.op_type]
    activations = tuple(a.decode() for a in attributes.get("activations", [])) or known[0]
    if attributes.get("direction", b"forward") != b"forward":
        return "it runs backwards in time"
    if attributes.get("layout", 0) or set(attributes) - _KNOWN or _input(node, _PEEPHOLES):
        return "it has peepholes, a clip or another rare attribute"
    if activations not in known:
        return f"its activations are {', '.join(activations)}"
    W, R = (constants.get(_input(node, place)) for place in (1, 2))
    if W is None or R is None or W.dtype != np.float32:
        return "its weights are no float32 constants"
    G, H = GATES[node.op_type], R.shape[2]
    bias = constants.get(_input(node, _BIAS), np.zeros((1, 2 * G * H), np.float32))
    cell = Cell(
        node=node,
        activations=activations,
        linear_before_reset=bool(attributes.get("linear_before_reset", 0)),
        W=W[0].T.reshape(-1, G, H),
        R=R[0].T.reshape(-1, G, H),
        Wb=bias[0, : G * H].reshape(G, H),
        Rb=bias[0, G * H :].reshape(G, H),
    )
    return cell if all(cell.first) else "it begins with zeros on every run"


class Step(Protocol):
    """One step of a cell, to be added to several graphs."""

    def add(self, g: Nodes, x: str, states: Sequence[str]) -> list[str]:
        """Add the step: x (B, F) and states (B, H) to the answer and new states (B, H) each."""
        ...


class StepMaker(Protocol):
    """Makes the step of a cell and adds its constants to the outermost graph.

    With `joined`, x and h both lie between -1 and 1.
    """

    def __call__(self, g: Nodes, cell: Cell, *, joined: bool) -> Step:
        """Return the step."""
        ...


class WrittenStep:
    """A step written out in products and gates. With `joined`, x and h share the products."""

    def __init__(self, g: Nodes, cell: Cell, *, joined: bool) -> None:
        self._cell = cell
        self._joined = joined
        self._names = {
            name: g.constant(name, value)
            for block, places in _BLOCKS[cell.kind].items()
            for name, value in self._matrices(block, list(places)).items()
        }
        H = cell.hidden
        if cell.kind == "LSTM":
            self._names["split"] = g.constant("split", np.array([H, H, H]))
        if cell.kind == "GRU":
            self._names["split"] = g.constant("split", np.array([H, H]))
            self._names["one"] = g.constant("one", np.float32(1))

    def add(self, g: Nodes, x: str, states: Sequence[str]) -> list[str]:
        """Add the step: x (B, F) and states (B, H) to the answer, which is h, and new states."""
        kinds: Mapping[str, Callable[..., list[str]]]
        kinds = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}
        joined = g.op("Concat", [x, states[0]], "xh", axis=1) if self._joined else ""
        new = kinds[self._cell.kind](g, x, joined, *states)
        return [new[0], *new]

    def _matrices(self, block: str, places: list[int]) -> dict[str, np.ndarray]:
        """Return a block's constants: products' (K, N) and biases (N,)."""
        cell = self._cell
        W, R, Wb, Rb = (
            np.ascontiguousarray(a[..., places, :].reshape(*a.shape[:-2], -1))
            for a in (cell.W, cell.R, cell.Wb, cell.Rb)
        )
        if self._is_apart(block):
            found = {f"{block}.W": W, f"{block}.R": R}
            both = cell.linear_before_reset
            return found | (
                {f"{block}.Wb": Wb, f"{block}.Rb": Rb} if both else {f"{block}.b": Wb + Rb}
            )
        if self._joined:
            return {f"{block}.WR": np.concatenate([W, R]), f"{block}.b": Wb + Rb}
        return {f"{block}.W": W, f"{block}.R": R, f"{block}.b": Wb + Rb}

    def _is_apart(self, block: str) -> bool:
        """Tell whether h's share of a block is not simply added to x's: the GRU's new value."""
        return block == "n"

    def _block(self, g: Nodes, block: str, x: str, h: str, joined: str) -> str:
        """Add what goes into a block's gates: x W + h R + b."""
        k = self._names
        if joined:
            return g.op("Gemm", [joined, k[f"{block}.WR"], k[f"{block}.b"]], f"{block}_in")
        own = g.op("Gemm", [h, k[f"{block}.R"], k[f"{block}.b"]], f"{block}_h")
        return g.op("Add", [own, g.op("MatMul", [x, k[f"{block}.W"]], f"{block}_x")], f"{block}_in")

    def _lstm(self, g: Nodes, x: str, joined: str, h: str, c: str) -> list[str]:
        iof = g.op("Sigmoid", [self._block(g, "iof", x, h, joined)], "iof")
        i, o, f = g.ops("Split", [iof, self._names["split"]], ["i", "o", "f"], axis=1)
        new = g.op("Tanh", [self._block(g, "c", x, h, joined)], "g")
        kept, entered = g.op("Mul", [f, c], "kept"), g.op("Mul", [i, new], "entered")
        c_new = g.op("Add", [kept, entered], "c_new")
        return [g.op("Mul", [o, g.op("Tanh", [c_new], "shown")], "h_new"), c_new]

    def _gru(self, g: Nodes, x: str, joined: str, h: str) -> list[str]:
        k = self._names
        zr = g.op("Sigmoid", [self._block(g, "zr", x, h, joined)], "zr")
        z, r = g.ops("Split", [zr, k["split"]], ["z", "r"], axis=1)
        if self._cell.linear_before_reset:
            own = g.op("Gemm", [h, k["n.R"], k["n.Rb"]], "n_h")
            own = g.op("Mul", [r, own], "n_reset")
            share = g.op("Gemm", [x, k["n.W"], k["n.Wb"]], "n_x")
        else:
            own = g.op("Gemm", [g.op("Mul", [r, h], "rh"), k["n.R"], k["n.b"]], "n_h")
            share = g.op("MatMul", [x, k["n.W"]], "n_x")
        n = g.op("Tanh", [g.op("Add", [own, share], "n_in")], "n")
        entered = g.op("Mul", [g.op("Sub", [k["one"], z], "open"), n], "entered")
        return [g.op("Add", [entered, g.op("Mul", [z, h], "kept")], "h_new")]

    def _rnn(self, g: Nodes, x: str, joined: str, h: str) -> list[str]:
        activation = self._cell.activations[0]
        return [g.op(activation, [self._block(g, "all", x, h, joined)], "h_new")]


def _input(node: onnx.NodeProto, place: int) -> str:
    return str(node.input[place]) if place < len(node.input) else ""
